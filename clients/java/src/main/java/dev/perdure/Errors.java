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

/** Conversion of gRPC errors to {@link PerdureException}. */
final class Errors {
    static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
    private static final String DOMAIN = "perdure";

    private Errors() {}

    /** Returns the exception for a call that ended with this status. */
    static PerdureException of(Status status, Metadata trailers, String requestId) {
        Status.Code code = status.getCode();
        if (code == Status.Code.UNKNOWN && status.getCause() instanceof IOException) {
            // grpc-java reports a connection that closed while it was being opened as UNKNOWN. An error that a server
            // sends has no cause.
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
                    for (var v : detail.unpack(PreconditionFailure.class).getViolationsList()) {
                        violations.add(new FieldViolation(v.getSubject(), v.getDescription()));
                    }
                } else if (detail.is(ResourceInfo.class)) {
                    ResourceInfo info = detail.unpack(ResourceInfo.class);
                    resource = new Resource(info.getResourceType(), info.getResourceName());
                } else if (detail.is(RetryInfo.class)) {
                    com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    retryDelay = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                }
            } catch (InvalidProtocolBufferException malformed) {
                // The other details, the status and the message are still valid.
                continue;
            }
        }
        String description = status.getDescription();
        String message = description == null || description.isEmpty() ? code.name() : description;
        // The cause is the failure of the connection, if there was one. The exception of gRPC would add nothing to it
        // and cannot be serialized.
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
        } catch (InvalidProtocolBufferException malformed) {
            // A proxy can truncate the details. The status and the message are still valid.
            return List.of();
        }
    }
}
