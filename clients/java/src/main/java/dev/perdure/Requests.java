package dev.perdure;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import dev.perdure.PerdureException.FieldViolation;
import dev.perdure.v1.ErrorReason;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** What every request goes through before it is sent. No I/O. */
final class Requests {
    private Requests() {}

    /** Returns {@code given}, or an id that no other call has. */
    static String requestId(String given) {
        return given.isEmpty() ? UUID.randomUUID().toString() : given;
    }

    /** Returns an argument that must be given. */
    static <T> T required(String field, T value) {
        if (value == null) {
            throw invalid(field, "must be given, not null");
        }
        return value;
    }

    /** Returns a delay in milliseconds, rounded up: never earlier than asked. */
    static long milliseconds(String field, Duration delay) {
        try {
            long whole = required(field, delay).toMillis();
            return delay.compareTo(Duration.ofMillis(whole)) > 0 ? Math.addExact(whole, 1) : whole;
        } catch (ArithmeticException tooLong) {
            throw invalid(field, "must fit into 64 bits of milliseconds, not " + delay);
        }
    }

    /** The error for one argument. */
    static PerdureException invalid(String field, String description) {
        return invalid(List.of(new FieldViolation(field, description)), "");
    }

    private static PerdureException invalid(List<FieldViolation> violations, String requestId) {
        return new PerdureException(
                Status.Code.INVALID_ARGUMENT,
                violations.get(0).toString(),
                ErrorReason.ERROR_REASON_INVALID_FIELD.name().substring("ERROR_REASON_".length()),
                Map.of(),
                violations,
                null,
                null,
                requestId,
                null);
    }

    /**
     * Refuses strings that have no UTF-8 form. protobuf-java would send a question mark in the place of a lone
     * surrogate, and what is stored would not be what the caller gave.
     */
    static void check(Message request, String requestId) {
        List<FieldViolation> violations = new ArrayList<>();
        collect(request, "", violations);
        if (!violations.isEmpty()) {
            throw invalid(violations, requestId);
        }
    }

    private static void collect(Message message, String path, List<FieldViolation> violations) {
        boolean mapEntry = message.getDescriptorForType().getOptions().getMapEntry();
        for (Map.Entry<FieldDescriptor, Object> entry : message.getAllFields().entrySet()) {
            FieldDescriptor field = entry.getKey();
            // A payload, and an entry of a map, are called by the field that holds them, as the server does.
            boolean unnamed = mapEntry || field.getContainingOneof() != null;
            String name = unnamed ? path : path.isEmpty() ? field.getName() : path + "." + field.getName();
            List<?> values = entry.getValue() instanceof List<?> list ? list : List.of(entry.getValue());
            for (Object value : values) {
                if (value instanceof Message nested) {
                    collect(nested, name, violations);
                } else if (value instanceof String text && hasLoneSurrogate(text)) {
                    violations.add(new FieldViolation(name, "holds a lone surrogate, which is no Unicode text"));
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
