package dev.perdure;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonWriter;
import com.google.gson.stream.MalformedJsonException;
import java.io.EOFException;
import java.io.IOException;
import java.io.StringReader;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON as plain values: maps, lists, strings, numbers, booleans and null.
 *
 * <p>Conversion is exact: a 64-bit integer never becomes a {@code double}. For classes of your own, see
 * {@link JsonCodec}.
 */
public final class Json {
    /** Maximum nesting depth of a value, the same as on the server. */
    public static final int DEPTH_MAX = 100;

    /** Maximum length of a number. The time to parse digits grows with the square of their count. */
    static final int NUMBER_CHARS_MAX = 1_000;

    private Json() {}

    /**
     * Returns a value as JSON text.
     *
     * <p>Supported are null, {@link Boolean}, {@link CharSequence}, the integer classes, {@link BigInteger},
     * {@link BigDecimal}, finite {@link Double} and {@link Float}, {@link Map} with string keys, {@link Collection},
     * {@code Object[]} and {@link RawJson}, which is parsed first.
     *
     * @throws IllegalArgumentException for any other value. The message names its path
     */
    public static String write(Object value) {
        StringWriter text = new StringWriter();
        JsonWriter out = new JsonWriter(text);
        out.setStrictness(Strictness.STRICT);
        try {
            write(value, out, "", DEPTH_MAX);
            out.flush();
        } catch (IOException impossible) {
            throw new UncheckedIOException(impossible); // a StringWriter does no I/O
        }
        return text.toString();
    }

    /**
     * Returns JSON text as a value: {@code Map<String, Object>} (in the order of the text), {@code List<Object>},
     * {@link String}, {@link Boolean} or null. Integers are {@link Long}, or {@link BigInteger} beyond 64 bits. Numbers
     * with a fraction or an exponent are {@link BigDecimal}. The last of several equal keys wins.
     *
     * @throws IllegalArgumentException if the text is not valid JSON. The message names the position
     */
    public static Object read(String text) {
        if (text.startsWith("\ufeff")) {
            throw invalid("starts with a byte order mark"); // gson would skip it
        }
        JsonReader in = new JsonReader(new StringReader(text));
        in.setStrictness(Strictness.STRICT);
        in.setNestingLimit(DEPTH_MAX);
        try {
            Object value = read(in);
            in.peek(); // fails if another value follows
            return value;
        } catch (EOFException end) {
            throw invalid(text.isBlank() ? "is empty" : "ends too early at path " + in.getPath());
        } catch (MalformedJsonException malformed) {
            throw invalid(problem(malformed, in));
        } catch (IOException impossible) {
            throw new UncheckedIOException(impossible); // a StringReader does no I/O
        }
    }

    private static Object read(JsonReader in) throws IOException {
        switch (in.peek()) {
            case BEGIN_OBJECT -> {
                Map<String, Object> found = new LinkedHashMap<>();
                in.beginObject();
                while (in.hasNext()) {
                    String key = in.nextName();
                    found.put(key, read(in));
                }
                in.endObject();
                return found;
            }
            case BEGIN_ARRAY -> {
                List<Object> found = new ArrayList<>();
                in.beginArray();
                while (in.hasNext()) {
                    found.add(read(in));
                }
                in.endArray();
                return found;
            }
            case STRING -> {
                return in.nextString();
            }
            case NUMBER -> {
                return number(in.getPath(), in.nextString());
            }
            case BOOLEAN -> {
                return in.nextBoolean();
            }
            default -> {
                in.nextNull();
                return null;
            }
        }
    }

    private static Number number(String path, String text) {
        if (text.length() > NUMBER_CHARS_MAX) {
            throw invalid("has a number of more than " + NUMBER_CHARS_MAX + " characters at path " + path);
        }
        if (text.chars().anyMatch(c -> c == '.' || c == 'e' || c == 'E')) {
            try {
                return new BigDecimal(text);
            } catch (NumberFormatException beyondTheExponentsRange) {
                throw invalid("has a number with too large an exponent at path " + path);
            }
        }
        BigInteger exact = new BigInteger(text);
        if (exact.bitLength() < Long.SIZE) {
            return exact.longValue();
        }
        return exact;
    }

    /** Returns what gson found, without its advice to accept malformed JSON. */
    private static String problem(MalformedJsonException malformed, JsonReader in) {
        String message = String.valueOf(malformed.getMessage()).lines().findFirst().orElse("");
        if (message.startsWith("Nesting limit")) {
            return "is nested more than " + DEPTH_MAX + " deep";
        }
        if (message.startsWith("Use JsonReader.setStrictness")) {
            // gson does not read numbers of more than 1,023 characters and reports them in the same way.
            int position = message.indexOf(" at line ");
            return "has a malformed value, or a number of more than " + NUMBER_CHARS_MAX + " characters,"
                    + (position < 0 ? " at path " + in.getPath() : message.substring(position));
        }
        return "is malformed: " + message;
    }

    private static IllegalArgumentException invalid(String problem) {
        return new IllegalArgumentException("invalid JSON: the text " + problem);
    }

    private static void write(Object value, JsonWriter out, String path, int depthLeft) throws IOException {
        if (value == null) {
            out.nullValue();
        } else if (value instanceof Boolean truth) {
            out.value(truth);
        } else if (value instanceof CharSequence text) {
            out.value(checked(text.toString(), path));
        } else if (value instanceof Number number) {
            out.value(checked(number, path));
        } else if (value instanceof RawJson raw) {
            write(raw.value(), out, path, depthLeft);
        } else if (depthLeft == 0) {
            throw unsupported(path, "nested more than " + DEPTH_MAX + " deep");
        } else if (value instanceof Map<?, ?> map) {
            writeMap(map, out, path, depthLeft);
        } else if (value instanceof Collection<?> items) {
            writeItems(items, out, path, depthLeft);
        } else if (value instanceof Object[] items) {
            writeItems(Arrays.asList(items), out, path, depthLeft);
        } else {
            throw unsupported(path, value.getClass().getName() + " is not a JSON type");
        }
    }

    private static void writeMap(Map<?, ?> map, JsonWriter out, String path, int depthLeft) throws IOException {
        out.beginObject();
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            if (!(entry.getKey() instanceof String key)) {
                throw unsupported(path, "key " + entry.getKey() + " is not a string");
            }
            out.name(checked(key, path));
            write(entry.getValue(), out, path + "." + key, depthLeft - 1);
        }
        out.endObject();
    }

    private static void writeItems(Collection<?> items, JsonWriter out, String path, int depthLeft)
            throws IOException {
        out.beginArray();
        int index = 0;
        for (Object item : items) {
            write(item, out, path + "[" + index + "]", depthLeft - 1);
            index++;
        }
        out.endArray();
    }

    private static Number checked(Number number, String path) {
        boolean exact = number instanceof Long
                || number instanceof Integer
                || number instanceof Short
                || number instanceof Byte
                || number instanceof BigInteger
                || number instanceof BigDecimal;
        boolean floating = number instanceof Double || number instanceof Float;
        if (!exact && !floating) {
            throw unsupported(path, number.getClass().getName() + " is not a JSON type");
        }
        if (floating && !Double.isFinite(number.doubleValue())) {
            throw unsupported(path, number + " is not a JSON number");
        }
        return number;
    }

    private static String checked(String text, String path) {
        if (Arguments.hasLoneSurrogate(text)) {
            throw unsupported(path, "contains a lone surrogate");
        }
        return text;
    }

    private static IllegalArgumentException unsupported(String path, String problem) {
        return new IllegalArgumentException(
                "value cannot be written as JSON at " + (path.isEmpty() ? "the top level" : path) + ": " + problem);
    }
}
