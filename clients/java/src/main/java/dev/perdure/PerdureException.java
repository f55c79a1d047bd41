package dev.perdure;

import io.grpc.Status;
import java.io.Serializable;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * Failure of a call.
 *
 * <p>Use {@link #reason()} to handle a specific failure:
 *
 * <pre>{@code
 * try {
 *     client.resume(id, "approved");
 * } catch (PerdureException error) {
 *     switch (error.reason()) {
 *         case EVENT_NOT_AWAITED -> client.resume(id, "approved", opts -> opts.buffer(true));
 *         default -> throw error;
 *     }
 * }
 * }</pre>
 *
 * <p>{@link #getMessage()} says what is wrong, {@link #detail()} gives the context, and {@link #hint()} says what to
 * do.
 */
public final class PerdureException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /**
     * Malformed field of a request.
     *
     * @param field path of the field
     * @param description problem and rule
     */
    public record FieldViolation(String field, String description) implements Serializable {
        @Override
        public String toString() {
            return field.isEmpty() ? description : field + ": " + description;
        }
    }

    /**
     * Resource that was not found or that is in the way.
     *
     * @param type type, such as {@code instance} or {@code workflow}
     * @param name name or ID
     */
    public record Resource(String type, String name) implements Serializable {}

    private final Status.Code code;
    private final String reasonName;
    private final String detail;
    private final String hint;
    private final Map<String, String> metadata;
    private final List<FieldViolation> violations;
    private final Resource resource;
    private final Duration retryDelay;
    private final String requestId;

    /** Creates an error. {@code detail} and {@code hint} are entries of the metadata, as in the API. */
    PerdureException(
            Status.Code code,
            String message,
            String reasonName,
            Map<String, String> metadata,
            List<FieldViolation> violations,
            Resource resource,
            Duration retryDelay,
            String requestId,
            Throwable cause) {
        super(message, cause);
        this.code = code;
        this.reasonName = reasonName;
        Map<String, String> properties = new HashMap<>(metadata);
        this.detail = Objects.requireNonNullElse(properties.remove("detail"), "");
        this.hint = Objects.requireNonNullElse(properties.remove("hint"), "");
        this.metadata = Map.copyOf(properties);
        this.violations = List.copyOf(violations);
        this.resource = resource;
        this.retryDelay = retryDelay;
        this.requestId = requestId;
    }

    /** Returns an error that the client itself detected. */
    static PerdureException local(Status.Code code, String message, String requestId, Throwable cause) {
        return new PerdureException(code, message, "", Map.of(), List.of(), null, null, requestId, cause);
    }

    /** Returns the gRPC status code. */
    public Status.Code code() {
        return code;
    }

    /**
     * Returns the reason code: {@link ErrorReason#UNSPECIFIED} if gRPC itself reported the error, and
     * {@link ErrorReason#UNKNOWN} for a reason of a newer server. In both cases, decide by {@link #code()}.
     */
    public ErrorReason reason() {
        return reasonName.isEmpty()
                ? ErrorReason.UNSPECIFIED
                : Convert.named(ErrorReason.class, reasonName, ErrorReason.UNKNOWN);
    }

    /** Returns the reason code as the server sent it, such as {@code INSTANCE_NOT_FOUND}; empty if none. */
    public String reasonName() {
        return reasonName;
    }

    /** Returns the context of the error for people; empty if none. */
    public String detail() {
        return detail;
    }

    /** Returns the suggested action for people; empty if none. */
    public String hint() {
        return hint;
    }

    /** Returns the properties of the error by name, such as {@code instance_id}. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** Returns every malformed field of the request. */
    public List<FieldViolation> violations() {
        return violations;
    }

    /** Returns the resource that was not found or that is in the way. */
    public Optional<Resource> resource() {
        return Optional.ofNullable(resource);
    }

    /** Returns the pause that the server asks for before a retry. */
    public Optional<Duration> retryDelay() {
        return Optional.ofNullable(retryDelay);
    }

    /**
     * Returns the request ID that the call was sent with; empty for reads. A repeated call with the same ID cannot take
     * effect twice.
     */
    public String requestId() {
        return requestId;
    }

    /**
     * Returns the steps that the error names, such as those that an event is ambiguous between. A step ref can carry a
     * suffix such as {@code @3.7}; treat it as opaque.
     */
    public List<String> stepRefs() {
        // An error about one step can also list the existing steps. The one step comes first.
        return Stream.of("step_ref", "step_refs", "steps")
                .flatMap(key -> Arrays.stream(metadata.getOrDefault(key, "").split(",")))
                .map(String::strip)
                .filter(ref -> !ref.isEmpty())
                .toList();
    }

    /** Returns the instance that the error is about; empty if it names none. */
    public String instanceId() {
        return resource()
                .filter(named -> named.type().substring(named.type().lastIndexOf('.') + 1).equalsIgnoreCase("instance"))
                .map(Resource::name)
                .orElse(metadata.getOrDefault("instance_id", ""));
    }

    /**
     * Returns true if the same call, with the same request ID, can succeed a little later. The client has already
     * retried such a failure until the timeout of the call.
     */
    public boolean isRetryable() {
        return switch (code) {
            // CANCELLED: a proxy between client and server cancelled the call. The caller's own cancellation ends
            // the retries before this is asked.
            case UNAVAILABLE, CANCELLED -> true;
            case RESOURCE_EXHAUSTED -> reason() == ErrorReason.OVERLOADED;
            default -> false;
        };
    }

    /** Returns the class and the message, then the detail and the hint on lines of their own. */
    @Override
    public String toString() {
        String text = super.toString();
        if (!detail.isEmpty()) {
            text += "\ndetail: " + detail;
        }
        if (!hint.isEmpty()) {
            text += "\nhint: " + hint;
        }
        return text;
    }
}
