package perdure

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is the reason for a rejected call, such as "INSTANCE_NOT_FOUND". A Reason is an error, so that
// errors.Is(err, perdure.ErrInstanceNotFound) matches. Handle a reason that you do not know by its [Error.Code].
type Reason string

// The reasons of the API. proto/perdure/v1/errors.proto describes each.
const (
	ErrInvalidField    Reason = "INVALID_FIELD" // Error.Violations lists every invalid field
	ErrRequestIDReused Reason = "REQUEST_ID_REUSED"
	ErrWorkflowInvalid Reason = "WORKFLOW_INVALID"

	ErrInstanceNotFound Reason = "INSTANCE_NOT_FOUND"
	ErrWorkflowNotFound Reason = "WORKFLOW_NOT_FOUND"
	ErrStepNotFound     Reason = "STEP_NOT_FOUND"
	ErrTimerNotFound    Reason = "TIMER_NOT_FOUND"

	ErrInstanceAlreadyExists Reason = "INSTANCE_ALREADY_EXISTS"
	ErrBusinessKeyInUse      Reason = "BUSINESS_KEY_IN_USE" // Error.InstanceID returns the holder

	ErrInstanceEnded       Reason = "INSTANCE_ENDED"
	ErrInstanceNotFailed   Reason = "INSTANCE_NOT_FAILED"
	ErrEventNotAwaited     Reason = "EVENT_NOT_AWAITED" // ResumeOptions.Buffer stores it for a later step
	ErrEventNeverAccepted  Reason = "EVENT_NEVER_ACCEPTED"
	ErrAmbiguousEvent      Reason = "AMBIGUOUS_EVENT" // Error.StepRefs returns the steps; ResumeOptions.StepRef selects one
	ErrStepFinished        Reason = "STEP_FINISHED"
	ErrStepUnreachable     Reason = "STEP_UNREACHABLE"
	ErrStepHasNoTimeout    Reason = "STEP_HAS_NO_TIMEOUT"
	ErrTimerNotCancellable Reason = "TIMER_NOT_CANCELLABLE"
	ErrLeaseLost           Reason = "LEASE_LOST"

	ErrRevisionCompacted Reason = "REVISION_COMPACTED"
	ErrRevisionInFuture  Reason = "REVISION_IN_FUTURE"

	ErrOverloaded      Reason = "OVERLOADED"
	ErrPayloadTooLarge Reason = "PAYLOAD_TOO_LARGE"
	ErrInboxFull       Reason = "INBOX_FULL"
	ErrTooManyTimers   Reason = "TOO_MANY_TIMERS"

	ErrDatabaseUnavailable Reason = "DATABASE_UNAVAILABLE"
	ErrCommitUnknown       Reason = "COMMIT_UNKNOWN" // retry with Error.RequestID to get the result
	ErrShuttingDown        Reason = "SHUTTING_DOWN"

	ErrBackupNotConfigured Reason = "BACKUP_NOT_CONFIGURED"
	ErrBackupAlreadyExists Reason = "BACKUP_ALREADY_EXISTS"
	ErrBackupFailed        Reason = "BACKUP_FAILED"
)

// Error returns the reason in lower-case words.
func (r Reason) Error() string {
	return strings.ToLower(strings.ReplaceAll(string(r), "_", " "))
}

// FieldViolation is an invalid field of a request.
type FieldViolation struct {
	// Field is the path of the field, such as "opts.labels".
	Field       string
	Description string
}

// Resource is an object that was not found or that conflicts with the call.
type Resource struct {
	// Type is the type of the object, such as "perdure.v1.Instance".
	Type string
	Name string
}

// Error is the error of a call. errors.Is matches it with its [Reason], and with context.Canceled or
// context.DeadlineExceeded if the call's context ended. status.Code returns its gRPC status code.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is empty if gRPC itself rejected the call or the server could not be reached.
	Reason Reason
	// Message says what is wrong.
	Message string
	// Detail adds context to the message. It can be empty.
	Detail string
	// Hint says how to fix the error. It can be empty.
	Hint string
	// Metadata holds the values that the error is about, by the keys in errors.proto.
	Metadata map[string]string
	// Violations lists every invalid field.
	Violations []FieldViolation
	// Resource is the object that was not found or that conflicts with the call, or nil.
	Resource *Resource
	// RetryAfter is the minimum time to wait before a retry, or 0.
	RetryAfter time.Duration
	// RequestID is the request ID of the call. A retry with this ID cannot take effect twice.
	RequestID string

	cause error
}

// Error returns the message, the reason, the violations that the message does not contain, the detail and the hint.
func (e *Error) Error() string {
	var more []string
	for _, violation := range e.Violations {
		if !strings.Contains(e.Message, violation.Description) {
			more = append(more, violation.Field+": "+violation.Description)
		}
	}
	message := e.Message
	if len(more) > 0 {
		// The server announces violations that its message does not contain. They follow here.
		message = strings.TrimSuffix(message, fmt.Sprintf(" (and %d more)", len(more)))
	}
	if e.Reason != "" {
		message += " (" + string(e.Reason) + ")"
	}
	if e.Detail != "" {
		more = append(more, "detail: "+e.Detail)
	}
	if e.Hint != "" {
		more = append(more, "hint: "+e.Hint)
	}
	return "perdure: " + strings.Join(append([]string{message}, more...), "; ")
}

// Is reports whether target is this error's reason.
func (e *Error) Is(target error) bool {
	reason, is := target.(Reason)
	return is && reason != "" && reason == e.Reason
}

// Unwrap returns context.Canceled or context.DeadlineExceeded if the call's context ended.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus lets status.Code and status.Convert read the error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// Retryable reports whether the same call, with the same request ID, can succeed later.
func (e *Error) Retryable() bool {
	switch e.Code {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		return e.Reason == ErrOverloaded
	case codes.Canceled:
		// A proxy or the server cancelled the call, not its caller.
		return e.cause == nil
	default:
		return false
	}
}

// StepRefs returns the steps that the error is about, for example the steps that an ambiguous event could resume. A
// reference may carry a suffix "@3.7"; treat it as opaque.
func (e *Error) StepRefs() []string {
	var refs []string
	// An error about one step can also list other steps. The one comes first.
	for _, key := range []string{"step_ref", "step_refs", "steps"} {
		for ref := range strings.SplitSeq(e.Metadata[key], ",") {
			if ref = strings.TrimSpace(ref); ref != "" {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// InstanceID returns the instance that the error is about, or "".
func (e *Error) InstanceID() string {
	if e.Resource != nil {
		kind := e.Resource.Type[strings.LastIndex(e.Resource.Type, ".")+1:]
		if strings.EqualFold(kind, "instance") {
			return e.Resource.Name
		}
	}
	return e.Metadata["instance_id"]
}

// ReasonOf returns the reason of an [*Error], or "" for any other error. Use it in a switch over reasons.
func ReasonOf(err error) Reason {
	var failure *Error
	if errors.As(err, &failure) {
		return failure.Reason
	}
	return ""
}
