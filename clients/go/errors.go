package perdure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Every error that a call can end with, and how gRPC's errors become these.

const errorDomain = "perdure"

// Reason is the API's word for why a call was refused. It is itself an error, so that errors.Is(err, reason) tells
// whether err is a refusal for that reason. Treat a reason that you do not know by its status.
type Reason string

// The reasons. What each means, and what to do about it, is said in proto/perdure/v1/errors.proto.
const (
	ErrInvalidField    Reason = "INVALID_FIELD" // Error.Violations lists every field that is wrong
	ErrRequestIDReused Reason = "REQUEST_ID_REUSED"
	ErrWorkflowInvalid Reason = "WORKFLOW_INVALID"

	ErrInstanceNotFound Reason = "INSTANCE_NOT_FOUND"
	ErrWorkflowNotFound Reason = "WORKFLOW_NOT_FOUND"
	ErrStepNotFound     Reason = "STEP_NOT_FOUND"
	ErrTimerNotFound    Reason = "TIMER_NOT_FOUND"

	ErrInstanceAlreadyExists Reason = "INSTANCE_ALREADY_EXISTS"
	ErrBusinessKeyInUse      Reason = "BUSINESS_KEY_IN_USE" // Error.InstanceID names the holder

	ErrInstanceEnded    Reason = "INSTANCE_ENDED"
	ErrInstanceNotFailed   Reason = "INSTANCE_NOT_FAILED"
	ErrEventNotAwaited     Reason = "EVENT_NOT_AWAITED" // ResumeOptions.Buffer leaves it for the step that will wait
	ErrEventNeverAccepted  Reason = "EVENT_NEVER_ACCEPTED"
	ErrAmbiguousEvent      Reason = "AMBIGUOUS_EVENT" // Error.StepRefs names the steps; ResumeOptions.StepRef picks one
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
	ErrOutcomeUnknown      Reason = "COMMIT_UNKNOWN" // calling again with Error.RequestID tells
	ErrShuttingDown        Reason = "SHUTTING_DOWN"

	ErrBackupNotConfigured Reason = "BACKUP_NOT_CONFIGURED"
	ErrBackupAlreadyExists Reason = "BACKUP_ALREADY_EXISTS"
	ErrBackupFailed        Reason = "BACKUP_FAILED"
)

// Error is the reason in words.
func (r Reason) Error() string {
	return strings.ToLower(strings.ReplaceAll(string(r), "_", " "))
}

// FieldViolation is one thing that is wrong with a request: the field, by its path, and what it should be.
type FieldViolation struct {
	Field       string
	Description string
}

// Resource is what was not found or stands in the way: its type ("instance", "workflow", ...) and its name.
type Resource struct {
	Type string
	Name string
}

// Error is a call that did not succeed. errors.Is matches it with its [Reason], and with context.Canceled or
// context.DeadlineExceeded where the call's context ended; status.Code gives its gRPC status.
type Error struct {
	// Status is the gRPC status that the error travelled with.
	Status codes.Code
	// Reason is empty where gRPC itself refused, and where the server could not be reached.
	Reason Reason
	// Message is for a person.
	Message string
	// Metadata holds what the reason is about; errors.proto says which keys.
	Metadata map[string]string
	// Violations are all the fields that are wrong.
	Violations []FieldViolation
	// Resource is what was missing or in the way; nil where the error names none.
	Resource *Resource
	// RetryAfter is the pause that the server asks for.
	RetryAfter time.Duration
	// RequestID is what the call was sent with: calling again with it cannot take effect twice.
	RequestID string

	cause error
}

// Error is the message, with the violations that it does not tell already.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString("perdure: ")
	text.WriteString(e.Message)
	for _, violation := range e.Violations {
		if !strings.Contains(e.Message, violation.Description) {
			fmt.Fprintf(&text, "; %s: %s", violation.Field, violation.Description)
		}
	}
	return text.String()
}

// Is tells whether target is this error's reason.
func (e *Error) Is(target error) bool {
	reason, is := target.(Reason)
	return is && reason != "" && reason == e.Reason
}

// Unwrap gives context.Canceled or context.DeadlineExceeded where the call ended for it.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus makes status.Code and status.Convert understand the error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Status, e.Message) }

// Retryable tells whether the same call, with the same request id, may succeed a little later.
func (e *Error) Retryable() bool {
	switch e.Status {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		return e.Reason == ErrOverloaded
	case codes.Canceled:
		// Somebody between client and server broke the call off, not its caller.
		return e.cause == nil
	default:
		return false
	}
}

// StepRefs are the steps that the error names: those that an event is ambiguous between, say.
func (e *Error) StepRefs() []string {
	var refs []string
	// An error about one step may tell beside it which steps there are; the one comes first then.
	for _, key := range []string{"step_ref", "step_refs", "steps"} {
		for ref := range strings.SplitSeq(e.Metadata[key], ",") {
			if ref = strings.TrimSpace(ref); ref != "" {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// InstanceID is the instance that the error is about; empty where it names none.
func (e *Error) InstanceID() string {
	if e.Resource != nil {
		kind := e.Resource.Type[strings.LastIndex(e.Resource.Type, ".")+1:]
		if strings.EqualFold(kind, "instance") {
			return e.Resource.Name
		}
	}
	return e.Metadata["instance_id"]
}

// ReasonOf gives the reason of a refusal, or "" for any other error. For a switch over reasons.
func ReasonOf(err error) Reason {
	var failure *Error
	if errors.As(err, &failure) {
		return failure.Reason
	}
	return ""
}

// errorOf is what gRPC's error means.
func errorOf(ctx context.Context, err error, requestID string) *Error {
	converted := status.Convert(err)
	failure := &Error{Status: converted.Code(), Message: converted.Message(), RequestID: requestID}
	if failure.Message == "" {
		failure.Message = failure.Status.String()
	}
	// A detail that cannot be read, cut by a proxy perhaps, comes as an error: the status and its message still stand.
	for _, detail := range converted.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				failure.Reason = Reason(detail.GetReason())
				failure.Metadata = maps.Clone(detail.GetMetadata())
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
	switch failure.Status {
	case codes.DeadlineExceeded:
		failure.cause = context.DeadlineExceeded
	case codes.Canceled:
		failure.cause = ctx.Err()
	}
	return failure
}

// contextError is the error of a call whose context ended between two sendings.
func contextError(ctx context.Context, last *Error) *Error {
	code := codes.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	return &Error{
		Status:    code,
		Message:   fmt.Sprintf("%v, after: %s", ctx.Err(), last.Message),
		RequestID: last.RequestID,
		cause:     ctx.Err(),
	}
}

// invalidField is a refusal by the client itself, in the server's form.
func invalidField(field, description string) *Error {
	return &Error{
		Status:     codes.InvalidArgument,
		Reason:     ErrInvalidField,
		Message:    field + ": " + description,
		Violations: []FieldViolation{{Field: field, Description: description}},
	}
}

// refineUnsendable turns protobuf's refusal to encode a request into one that names the field: strings must be UTF-8.
func refineUnsendable(failure *Error, request proto.Message) *Error {
	var violations []FieldViolation
	collectBadStrings(request.ProtoReflect(), "", &violations)
	if len(violations) == 0 {
		return failure
	}
	refined := invalidField(violations[0].Field, violations[0].Description)
	refined.Violations, refined.RequestID = violations, failure.RequestID
	return refined
}

func collectBadStrings(message protoreflect.Message, path string, found *[]FieldViolation) {
	check := func(field protoreflect.FieldDescriptor, name string, value protoreflect.Value) {
		switch field.Kind() {
		case protoreflect.StringKind:
			if !utf8.ValidString(value.String()) {
				*found = append(*found, FieldViolation{Field: name, Description: "must be UTF-8"})
			}
		case protoreflect.MessageKind:
			collectBadStrings(value.Message(), name+".", found)
		}
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := path + string(field.Name())
		switch {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, item protoreflect.Value) bool {
				check(field.MapKey(), name, key.Value())
				check(field.MapValue(), name, item)
				return true
			})
		case field.IsList():
			for index := range value.List().Len() {
				check(field, fmt.Sprintf("%s[%d]", name, index), value.List().Get(index))
			}
		default:
			check(field, name, value)
		}
		return true
	})
}
