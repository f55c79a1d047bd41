package dev.perdure;

import dev.perdure.v1.ErrorReason;
import io.grpc.Status;
import java.io.Serializable;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * A call that did not succeed.
 *
 * <p>{@link #reason()} is the API's word for why, made for a {@code switch}:
 *
 * <pre>{@code
 * try {
 *     client.resume(id, "approved");
 * } catch (PerdureException error) {
 *     switch (error.reason()) {
 *         case ERROR_REASON_EVENT_NOT_AWAITED -> client.resume(id, "approved", opts -> opts.setBuffer(true));
 *         default -> throw error;
 *     }
 * }
 * }</pre>
 *
 * <p>A reason that this version does not know is {@code UNRECOGNIZED}: go by {@link #status()} then;
 * {@link #reasonName()} still has the word. An error of gRPC itself (a message too large, nobody there) has
 * {@code ERROR_REASON_UNSPECIFIED} and an empty name.
 */
public final class PerdureException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** One thing that is wrong with a request: the field, by its path, and what it should be. */
    public record FieldViolation(String field, String description) implements Serializable {
        @Override
        public String toString() {
            return field.isEmpty() ? description : field + ": " + description;
        }
    }

    /** What was not found or stands in the way: its type ({@code instance}, {@code workflow}, ...) and its name. */
    public record Resource(String type, String name) implements Serializable {}

    private final Status.Code status;
    private final String reasonName;
    private final Map<String, String> metadata;
    private final List<FieldViolation> violations;
    private final Resource resource;
    private final Duration retryDelay;
    private final String requestId;

    PerdureException(
            Status.Code status,
            String message,
            String reasonName,
            Map<String, String> metadata,
            List<FieldViolation> violations,
            Resource resource,
            Duration retryDelay,
            String requestId,
            Throwable cause) {
        super(message, cause);
        this.status = status;
        this.reasonName = reasonName;
        this.metadata = Map.copyOf(metadata);
        this.violations = List.copyOf(violations);
        this.resource = resource;
        this.retryDelay = retryDelay;
        this.requestId = requestId;
    }

    /** An error that this client found by itself. */
    static PerdureException local(Status.Code status, String message, String requestId, Throwable cause) {
        return new PerdureException(status, message, "", Map.of(), List.of(), null, null, requestId, cause);
    }

    /** The gRPC status that the error travelled with. */
    public Status.Code status() {
        return status;
    }

    /** Why; see the class comment for unknown ones. */
    public ErrorReason reason() {
        if (reasonName.isEmpty()) {
            return ErrorReason.ERROR_REASON_UNSPECIFIED;
        }
        try {
            return ErrorReason.valueOf("ERROR_REASON_" + reasonName);
        } catch (IllegalArgumentException newerThanThisClient) {
            return ErrorReason.UNRECOGNIZED;
        }
    }

    /** Why, as the server wrote it ({@code INSTANCE_NOT_FOUND}), known to this version or not. */
    public String reasonName() {
        return reasonName;
    }

    /** What the reason is about, in the API's words. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** All the fields that are wrong, at once. */
    public List<FieldViolation> violations() {
        return violations;
    }

    /** What was missing or stands in the way. */
    public Optional<Resource> resource() {
        return Optional.ofNullable(resource);
    }

    /** The pause that the server asks for. */
    public Optional<Duration> retryDelay() {
        return Optional.ofNullable(retryDelay);
    }

    /** The request id that a mutating call was sent with; calling again with it cannot take effect twice. */
    public String requestId() {
        return requestId;
    }

    /** The steps that the error names: those that an event is ambiguous between, say. */
    public List<String> stepRefs() {
        // An error about one step may tell beside it which steps there are; the one comes first then.
        return Stream.of("step_ref", "step_refs", "steps")
                .flatMap(key -> Arrays.stream(metadata.getOrDefault(key, "").split(",")))
                .map(String::strip)
                .filter(ref -> !ref.isEmpty())
                .toList();
    }

    /**
     * Whether the same call, with the same request id, may succeed a little later. The client has retried such a
     * failure for as long as the call may take.
     */
    public boolean isTransient() {
        return switch (status) {
            // CANCELLED: somebody between client and server broke the call off; the caller's own end never gets here.
            case UNAVAILABLE, CANCELLED -> true;
            case RESOURCE_EXHAUSTED -> reason() == ErrorReason.ERROR_REASON_OVERLOADED;
            default -> false;
        };
    }
}
