package dev.perdure;

import dev.perdure.v1.Payload;

/**
 * JSON values as the API carries them: text, kept byte for byte.
 *
 * <p>Three ways in and out, none of which loses an integer's digit or a character: the text itself ({@link #json},
 * {@link #text}), plain values ({@link #of}, {@link #value}), and a library's classes ({@link JsonCodec}).
 */
public final class Payloads {
    private Payloads() {}

    /** Returns a payload with this JSON text, which the server checks. */
    public static Payload json(String text) {
        return Payload.newBuilder().setJson(text).build();
    }

    /**
     * Returns a plain value as a payload; see {@link Json#write} for what is plain.
     *
     * @throws IllegalArgumentException for what JSON cannot say, with its place
     */
    public static Payload of(Object value) {
        return json(Json.write(value));
    }

    /** Returns a payload's JSON text; {@code null} (the four letters) for one without a body. */
    public static String text(Payload payload) {
        return payload.hasJson() ? payload.getJson() : "null";
    }

    /** Returns a payload as a plain value; see {@link Json#read} for which. */
    public static Object value(Payload payload) {
        return Json.read(text(payload));
    }
}
