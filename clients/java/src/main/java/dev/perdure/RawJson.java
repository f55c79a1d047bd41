package dev.perdure;

import java.util.Objects;

/**
 * JSON text, passed to and from the server byte for byte.
 *
 * <pre>{@code
 * client.startInstance("order", new RawJson("{\"total\": 12345678901234567890}"));
 * Object total = client.getInstance(id).input().value();
 * }</pre>
 *
 * @param text one JSON value. The server checks it
 */
public record RawJson(String text) {
    public RawJson {
        Objects.requireNonNull(text, "text");
    }

    /**
     * Returns a plain value as JSON text.
     *
     * @throws IllegalArgumentException if JSON cannot represent the value, see {@link Json#write}
     */
    public static RawJson of(Object value) {
        return new RawJson(Json.write(value));
    }

    /**
     * Returns the parsed text: maps, lists, strings, exact numbers, booleans or null.
     *
     * @throws IllegalArgumentException if the text is not valid JSON, see {@link Json#read}
     */
    public Object value() {
        return Json.read(text);
    }

    /** Returns the JSON text. */
    @Override
    public String toString() {
        return text;
    }
}
