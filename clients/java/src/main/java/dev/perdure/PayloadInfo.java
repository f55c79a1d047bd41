package dev.perdure;

/**
 * Size and digest of a payload, in place of the payload.
 *
 * @param sizeBytes length of the JSON text in bytes
 * @param digest BLAKE2b-128 of the JSON text, in lower-case hexadecimal
 */
public record PayloadInfo(long sizeBytes, String digest) {}
