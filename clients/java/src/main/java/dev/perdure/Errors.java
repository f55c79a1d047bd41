package dev.perdure;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import dev.perdure.PerdureException.FieldViolation;
import dev.perdure.PerdureException.Resource;
import io.grpc.Metadata;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** gRPC's errors as {@link PerdureException}: the only place that knows both. */
final class Errors {
    static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
    private static final String DOMAIN = "perdure";

    private Errors() {}

    /** Returns the exception for a call that ended with {@code status}. */
    static PerdureException of(Status status, Metadata trailers, String requestId) {
        Status.Code code = status.getCode();
        if (code == Status.Code.UNKNOWN && status.getCause() instanceof IOException) {
            // grpc-java's word for a connection that closed while it was being made. No server said this: what a server
            // says has no cause.
            code = Status.Code.UNAVAILABLE;
        }
        String reason = "";
        Map<String, String> metadata = Map.of();
        List<FieldViolation> violations = new ArrayList<>();
        Resource resource = null;
        Duration retryDelay = null;
        for (Any detail : details(trailers)) {
            try {
                if (detail.is(ErrorInfo.class)) {
                    ErrorInfo info = detail.unpack(ErrorInfo.class);
                    if (info.getDomain().equals(DOMAIN)) {
                        reason = info.getReason();
                        metadata = info.getMetadataMap();
                    }
                } else if (detail.is(BadRequest.class)) {
                    for (BadRequest.FieldViolation v : detail.unpack(BadRequest.class).getFieldViolationsList()) {
                        violations.add(new FieldViolation(v.getField(), v.getDescription()));
                    }
                } else if (detail.is(PreconditionFailure.class)) {
                    for (PreconditionFailure.Violation v : detail.unpack(PreconditionFailure.class).getViolationsList()) {
                        violations.add(new FieldViolation(v.getSubject(), v.getDescription()));
                    }
                } else if (detail.is(ResourceInfo.class)) {
                    ResourceInfo info = detail.unpack(ResourceInfo.class);
                    resource = new Resource(info.getResourceType(), info.getResourceName());
                } else if (detail.is(RetryInfo.class)) {
                    com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    retryDelay = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                }
            } catch (InvalidProtocolBufferException cut) {
                // One detail is broken; the others, the status and the message still stand.
                continue;
            }
        }
        String told = status.getDescription();
        String message = told == null || told.isEmpty() ? code.name() : told;
        // The cause is what broke the connection, if something did. gRPC's own exception would add nothing to it, and
        // could not be serialized.
        return new PerdureException(
                code,
                message,
                reason,
                metadata,
                violations,
                resource,
                retryDelay,
                requestId,
                status.getCause());
    }

    private static List<Any> details(Metadata trailers) {
        byte[] body = trailers == null ? null : trailers.get(DETAILS);
        if (body == null) {
            return List.of();
        }
        try {
            return com.google.rpc.Status.parseFrom(body).getDetailsList();
        } catch (InvalidProtocolBufferException cut) {
            // A proxy may have cut it.
            return List.of();
        }
    }
}
