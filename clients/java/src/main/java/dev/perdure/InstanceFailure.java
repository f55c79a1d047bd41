package dev.perdure;

/**
 * Cause of a FAILED instance.
 *
 * @param stepRef step that failed. Can carry a suffix such as {@code @3.7}; treat it as opaque
 * @param type short, stable name, such as the class of the exception
 * @param message text for people, at most 2,000 characters
 * @param attempts number of failed attempts of the step
 */
public record InstanceFailure(String stepRef, String type, String message, long attempts) {}
