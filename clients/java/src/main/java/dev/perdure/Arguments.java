package dev.perdure;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import dev.perdure.PerdureException.FieldViolation;
import dev.perdure.v1.Payload;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** Conversion and checks of arguments before a request is sent. No I/O. */
final class Arguments {
    private static final long UINT32_MAX = 0xffff_ffffL;

    private Arguments() {}

    /** Returns {@code given}, or a random UUID if it is empty. */
    static String requestId(String given) {
        return given.isEmpty() ? UUID.randomUUID().toString() : given;
    }

    /** Returns a required argument. Rejects null. */
    static <T> T required(String field, T value) {
        if (value == null) {
            throw invalid(field, "is required and must not be null");
        }
        return value;
    }

    /** Returns a JSON argument: the text of a {@link RawJson}, any other value converted. Rejects null. */
    static Payload payload(String field, Object value) {
        if (required(field, value) instanceof RawJson raw) {
            return Payload.newBuilder().setJson(raw.text()).build();
        }
        try {
            return Payload.newBuilder().setJson(Json.write(value)).build();
        } catch (IllegalArgumentException unsupported) {
            throw invalid(field, unsupported.getMessage());
        }
    }

    /** Returns a number for a uint32 field, whose upper half Java's int holds as negative numbers. */
    static int uint32(String field, long value) {
        if (value < 0 || value > UINT32_MAX) {
            throw invalid(field, "must be 0 to " + UINT32_MAX + ", not " + value);
        }
        return (int) value;
    }

    /** Returns a delay in milliseconds, rounded up so that it never ends early. */
    static long milliseconds(String field, Duration delay) {
        try {
            long whole = required(field, delay).toMillis();
            return delay.compareTo(Duration.ofMillis(whole)) > 0 ? Math.addExact(whole, 1) : whole;
        } catch (ArithmeticException tooLong) {
            throw invalid(field, "must fit into 64 bits of milliseconds, not " + delay);
        }
    }

    /** Returns the error for one malformed argument. */
    static PerdureException invalid(String field, String description) {
        return invalid(List.of(new FieldViolation(field, description)), Map.of(), "");
    }

    /** Returns the error for one malformed argument, with a hint. */
    static PerdureException invalid(String field, String description, String hint) {
        return invalid(List.of(new FieldViolation(field, description)), Map.of("hint", hint), "");
    }

    private static PerdureException invalid(
            List<FieldViolation> violations, Map<String, String> metadata, String requestId) {
        return new PerdureException(
                Status.Code.INVALID_ARGUMENT,
                violations.get(0).toString(),
                ErrorReason.INVALID_FIELD.name(),
                metadata,
                violations,
                null,
                null,
                requestId,
                null);
    }

    /**
     * Rejects strings without a UTF-8 form. protobuf-java would replace a lone surrogate with a question mark, and the
     * server would store a different text than the caller passed.
     */
    static void check(Message request, String requestId) {
        List<FieldViolation> violations = new ArrayList<>();
        collect(request, "", violations);
        if (!violations.isEmpty()) {
            throw invalid(violations, Map.of(), requestId);
        }
    }

    private static void collect(Message message, String path, List<FieldViolation> violations) {
        boolean mapEntry = message.getDescriptorForType().getOptions().getMapEntry();
        for (Map.Entry<FieldDescriptor, Object> entry : message.getAllFields().entrySet()) {
            FieldDescriptor field = entry.getKey();
            // As on the server, a payload and a map entry go by the name of the field that contains them.
            boolean unnamed = mapEntry || field.getContainingOneof() != null;
            String name = unnamed ? path : path.isEmpty() ? field.getName() : path + "." + field.getName();
            List<?> values = entry.getValue() instanceof List<?> list ? list : List.of(entry.getValue());
            for (Object value : values) {
                if (value instanceof Message nested) {
                    collect(nested, name, violations);
                } else if (value instanceof String text && hasLoneSurrogate(text)) {
                    violations.add(new FieldViolation(name, "contains a lone surrogate, which is not valid Unicode"));
                }
            }
        }
    }

    static boolean hasLoneSurrogate(String text) {
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
            } else if (Character.isSurrogate(c)) {
                return true;
            }
        }
        return false;
    }
}
