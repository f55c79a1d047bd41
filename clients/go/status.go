package perdure

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errorDomain is the domain of the API's reasons. A reason of another domain is ignored.
const errorDomain = "perdure"

// errorOf converts a gRPC error.
func errorOf(ctx context.Context, err error, requestID string) *Error {
	converted := status.Convert(err)
	failure := &Error{Code: converted.Code(), Message: converted.Message(), RequestID: requestID}
	if failure.Message == "" {
		failure.Message = failure.Code.String()
	}
	// Details that cannot be decoded, perhaps truncated by a proxy, are ignored. The code and the message remain.
	for _, detail := range converted.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				failure.Reason = Reason(detail.GetReason())
				failure.Metadata = maps.Clone(detail.GetMetadata())
				failure.Detail = failure.Metadata["detail"]
				failure.Hint = failure.Metadata["hint"]
				delete(failure.Metadata, "detail")
				delete(failure.Metadata, "hint")
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failure.Violations = append(failure.Violations,
					FieldViolation{Field: violation.GetField(), Description: violation.GetDescription()})
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.GetViolations() {
				failure.Violations = append(failure.Violations,
					FieldViolation{Field: violation.GetSubject(), Description: violation.GetDescription()})
			}
		case *errdetails.ResourceInfo:
			failure.Resource = &Resource{Type: detail.GetResourceType(), Name: detail.GetResourceName()}
		case *errdetails.RetryInfo:
			failure.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	switch failure.Code {
	case codes.DeadlineExceeded:
		failure.cause = context.DeadlineExceeded
	case codes.Canceled:
		failure.cause = ctx.Err()
	}
	return failure
}

// contextError is the error of a call whose context ended during the pause before a retry.
func contextError(ctx context.Context, last *Error) *Error {
	code := codes.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	return &Error{
		Code:      code,
		Message:   fmt.Sprintf("%v before a retry", ctx.Err()),
		Detail:    "the last attempt failed: " + last.Message,
		RequestID: last.RequestID,
		cause:     ctx.Err(),
	}
}
