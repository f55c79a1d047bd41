package dev.perdure;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads one JSON text (RFC 8259) from its first character to its last. */
final class JsonReader {
    /** Parsing digits costs the square of their number; a longer number is left to who reads the text. */
    static final int NUMBER_CHARS_MAX = 1_000;

    private final String text;
    private int at;

    JsonReader(String text) {
        this.text = text;
    }

    Object document() {
        Object value = value(Json.DEPTH_MAX);
        skipBlanks();
        if (at < text.length()) {
            throw wrong("nothing may follow the value");
        }
        return value;
    }

    private Object value(int depthLeft) {
        skipBlanks();
        char c = peek();
        if ((c == '{' || c == '[') && depthLeft == 0) {
            throw wrong("nested more than " + Json.DEPTH_MAX + " deep");
        }
        return switch (c) {
            case '{' -> object(depthLeft - 1);
            case '[' -> array(depthLeft - 1);
            case '"' -> string();
            case 't' -> word("true", Boolean.TRUE);
            case 'f' -> word("false", Boolean.FALSE);
            case 'n' -> word("null", null);
            default -> number();
        };
    }

    private Map<String, Object> object(int depthLeft) {
        Map<String, Object> found = new LinkedHashMap<>();
        at++;
        skipBlanks();
        if (taken('}')) {
            return found;
        }
        do {
            skipBlanks();
            if (peek() != '"') {
                throw wrong("a key is expected");
            }
            String key = string();
            skipBlanks();
            expect(':');
            found.put(key, value(depthLeft));
            skipBlanks();
        } while (taken(','));
        expect('}');
        return found;
    }

    private List<Object> array(int depthLeft) {
        List<Object> found = new ArrayList<>();
        at++;
        skipBlanks();
        if (taken(']')) {
            return found;
        }
        do {
            found.add(value(depthLeft));
            skipBlanks();
        } while (taken(','));
        expect(']');
        return found;
    }

    private String string() {
        at++;
        StringBuilder out = new StringBuilder();
        while (true) {
            char c = peek();
            at++;
            if (c == '"') {
                return out.toString();
            } else if (c == '\\') {
                out.append(escaped());
            } else if (c < 0x20) {
                at--;
                throw wrong("a control character stands bare in a string");
            } else {
                out.append(c);
            }
        }
    }

    private char escaped() {
        char c = peek();
        at++;
        return switch (c) {
            case '"', '\\', '/' -> c;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> fourDigits();
            default -> {
                at--;
                throw wrong("no such escape");
            }
        };
    }

    private char fourDigits() {
        int code = 0;
        for (int i = 0; i < 4; i++) {
            char c = peek();
            int digit = c < 0x80 ? Character.digit(c, 16) : -1;
            if (digit < 0) {
                throw wrong("four hexadecimal digits are expected");
            }
            code = code * 16 + digit;
            at++;
        }
        return (char) code;
    }

    private Number number() {
        int from = at;
        taken('-');
        if (!taken('0')) {
            digits();
        }
        boolean whole = true;
        if (taken('.')) {
            whole = false;
            digits();
        }
        if (taken('e') || taken('E')) {
            whole = false;
            if (!taken('+')) {
                taken('-');
            }
            digits();
        }
        String found = text.substring(from, at);
        if (found.length() > NUMBER_CHARS_MAX) {
            throw wrong("a number of more than " + NUMBER_CHARS_MAX + " characters");
        }
        if (!whole) {
            try {
                return new BigDecimal(found);
            } catch (NumberFormatException beyondTheExponentsRange) {
                throw wrong("a number beyond BigDecimal");
            }
        }
        BigInteger exact = new BigInteger(found);
        if (exact.bitLength() < Long.SIZE) {
            return exact.longValue();
        }
        return exact;
    }

    private void digits() {
        int from = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        if (at == from) {
            throw wrong(at < text.length() ? "a value is expected" : "the text ends too early");
        }
    }

    private Object word(String word, Object meaning) {
        if (!text.startsWith(word, at)) {
            throw wrong("a value is expected");
        }
        at += word.length();
        return meaning;
    }

    private void skipBlanks() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char peek() {
        if (at >= text.length()) {
            throw wrong("the text ends too early");
        }
        return text.charAt(at);
    }

    private boolean taken(char c) {
        if (at < text.length() && text.charAt(at) == c) {
            at++;
            return true;
        }
        return false;
    }

    private void expect(char c) {
        if (!taken(c)) {
            throw wrong("'" + c + "' is expected");
        }
    }

    private IllegalArgumentException wrong(String why) {
        return new IllegalArgumentException("no JSON at character " + at + ": " + why);
    }
}
