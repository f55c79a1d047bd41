package dev.perdure;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.Arrays;
import java.util.Collection;
import java.util.Map;

/**
 * JSON as plain values, exact or refused: maps, lists, strings, numbers, booleans and null.
 *
 * <p>Here so that a first call needs no JSON library, and so that a 64-bit integer never becomes a {@code double} on its
 * way. For classes of your own see {@link JsonCodec}.
 */
public final class Json {
    /** How deep a value may be nested: the server's own limit. */
    public static final int DEPTH_MAX = 100;

    private Json() {}

    /**
     * Returns a value as JSON text.
     *
     * <p>Plain are: null, {@link Boolean}, {@link CharSequence}, the integer classes, {@link BigInteger},
     * {@link BigDecimal}, finite {@link Double} and {@link Float}, {@link Map} with string keys, {@link Collection} and
     * {@code Object[]}.
     *
     * @throws IllegalArgumentException for anything else, with its place
     */
    public static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out, "", DEPTH_MAX);
        return out.toString();
    }

    /**
     * Returns JSON text as a value: {@code Map<String, Object>} (in the text's order), {@code List<Object>},
     * {@link String}, {@link Long} or, beyond it, {@link BigInteger}, {@link BigDecimal} for numbers with a fraction or an
     * exponent, {@link Boolean} or null.
     *
     * @throws IllegalArgumentException for text that is no JSON, with its place
     */
    public static Object read(String text) {
        return new JsonReader(text).document();
    }

    private static void write(Object value, StringBuilder out, String place, int depthLeft) {
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence text) {
            writeString(text.toString(), out, place);
        } else if (value instanceof Number number) {
            out.append(numberText(number, place));
        } else if (depthLeft == 0) {
            throw refused(place, "is nested more than " + DEPTH_MAX + " deep");
        } else if (value instanceof Map<?, ?> map) {
            writeMap(map, out, place, depthLeft);
        } else if (value instanceof Collection<?> items) {
            writeItems(items, out, place, depthLeft);
        } else if (value instanceof Object[] items) {
            writeItems(Arrays.asList(items), out, place, depthLeft);
        } else {
            throw refused(place, "JSON has no " + value.getClass().getName());
        }
    }

    private static void writeMap(Map<?, ?> map, StringBuilder out, String place, int depthLeft) {
        out.append('{');
        boolean first = true;
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            if (!(entry.getKey() instanceof String key)) {
                throw refused(place, "has the key " + entry.getKey() + ", which is no string");
            }
            if (!first) {
                out.append(',');
            }
            first = false;
            writeString(key, out, place);
            out.append(':');
            write(entry.getValue(), out, place + "." + key, depthLeft - 1);
        }
        out.append('}');
    }

    private static void writeItems(Collection<?> items, StringBuilder out, String place, int depthLeft) {
        out.append('[');
        int index = 0;
        for (Object item : items) {
            if (index > 0) {
                out.append(',');
            }
            write(item, out, place + "[" + index + "]", depthLeft - 1);
            index++;
        }
        out.append(']');
    }

    private static String numberText(Number number, String place) {
        boolean integer = number instanceof Long
                || number instanceof Integer
                || number instanceof Short
                || number instanceof Byte
                || number instanceof BigInteger;
        if (!integer && !(number instanceof BigDecimal)) {
            boolean floating = number instanceof Double || number instanceof Float;
            if (!floating || !Double.isFinite(number.doubleValue())) {
                throw refused(place, "JSON has no " + (floating ? number : number.getClass().getName()));
            }
        }
        return number.toString();
    }

    private static void writeString(String text, StringBuilder out, String place) {
        if (Requests.hasLoneSurrogate(text)) {
            throw refused(place, "holds a lone surrogate");
        }
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                default -> {
                    if (c < 0x20) {
                        out.append(String.format("\\u%04x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }

    private static IllegalArgumentException refused(String place, String why) {
        return new IllegalArgumentException("no JSON at " + (place.isEmpty() ? "the top" : place) + ": " + why);
    }
}
