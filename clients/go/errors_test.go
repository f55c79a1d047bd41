package perdure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	perdurev1 "perdure.dev/go/perdure/v1"
)

func packed(t *testing.T, message proto.Message) *anypb.Any {
	t.Helper()
	detail, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	return detail
}

func TestEveryReasonHasAConstant(t *testing.T) {
	named := []Reason{
		"UNSPECIFIED", // never sent
		ErrInvalidField, ErrRequestIDReused, ErrWorkflowInvalid, ErrInstanceNotFound, ErrWorkflowNotFound,
		ErrStepNotFound, ErrTimerNotFound, ErrInstanceAlreadyExists, ErrBusinessKeyInUse, ErrInstanceEnded,
		ErrInstanceNotFailed, ErrEventNotAwaited, ErrEventNeverAccepted, ErrAmbiguousEvent, ErrStepFinished,
		ErrStepUnreachable, ErrStepHasNoTimeout, ErrTimerNotCancellable, ErrLeaseLost, ErrRevisionCompacted,
		ErrRevisionInFuture, ErrOverloaded, ErrPayloadTooLarge, ErrInboxFull, ErrTooManyTimers,
		ErrDatabaseUnavailable, ErrCommitUnknown, ErrShuttingDown,
		ErrBackupNotConfigured, ErrBackupAlreadyExists, ErrBackupFailed,
	}
	for _, name := range perdurev1.ErrorReason_name {
		if reason := Reason(strings.TrimPrefix(name, "ERROR_REASON_")); !slices.Contains(named, reason) {
			t.Errorf("%s has no constant in this package", reason)
		}
	}
	if len(named) != len(perdurev1.ErrorReason_name) {
		t.Error("a constant is not a reason of the API")
	}
}

func TestErrorHasEverythingThatTheServerSent(t *testing.T) {
	err := errorOf(t.Context(), status.FromProto(&statuspb.Status{
		Code:    int32(codes.FailedPrecondition),
		Message: "several steps wait for 'answered'",
		Details: []*anypb.Any{
			packed(t, &errdetails.ErrorInfo{
				Reason: "AMBIGUOUS_EVENT", Domain: "perdure", Metadata: map[string]string{
					"steps": "left, right", "detail": "two branches wait", "hint": "set step_ref",
				},
			}),
			packed(t, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: "event", Description: "is ambiguous"},
			}}),
			packed(t, &errdetails.ResourceInfo{ResourceType: "perdure.v1.Instance", ResourceName: "i1"}),
			packed(t, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}),
			{TypeUrl: "type.googleapis.com/perdure.v9.Unheard", Value: []byte("new")},
		},
	}).Err(), "r1")
	wrapped := fmt.Errorf("while shipping: %w", err)

	if !errors.Is(wrapped, ErrAmbiguousEvent) || errors.Is(wrapped, ErrEventNotAwaited) {
		t.Error("errors.Is does not match the reason")
	}
	if ReasonOf(wrapped) != ErrAmbiguousEvent || status.Code(wrapped) != codes.FailedPrecondition {
		t.Error(ReasonOf(wrapped), status.Code(wrapped))
	}
	if !slices.Equal(err.StepRefs(), []string{"left", "right"}) || err.InstanceID() != "i1" {
		t.Error(err.StepRefs(), err.InstanceID())
	}
	if err.RetryAfter != time.Second || err.RequestID != "r1" || err.Retryable() {
		t.Error(err.RetryAfter, err.RequestID, err.Retryable())
	}
	if err.Detail != "two branches wait" || err.Hint != "set step_ref" {
		t.Error(err.Detail, err.Hint)
	}
	want := "perdure: several steps wait for 'answered' (AMBIGUOUS_EVENT); event: is ambiguous; " +
		"detail: two branches wait; hint: set step_ref"
	if text := err.Error(); text != want {
		t.Error(text)
	}
}

func TestReasonOfAnotherDomainIsIgnored(t *testing.T) {
	err := errorOf(t.Context(), status.FromProto(&statuspb.Status{
		Code:    int32(codes.ResourceExhausted),
		Details: []*anypb.Any{packed(t, &errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "proxy.example"})},
	}).Err(), "")
	if err.Reason != "" || err.Retryable() || err.Is(Reason("")) {
		t.Error(err)
	}
}

func TestTruncatedDetailsLeaveCodeAndMessage(t *testing.T) {
	whole := packed(t, &errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "perdure"})
	whole.Value = whole.Value[:5]
	err := errorOf(t.Context(), status.FromProto(&statuspb.Status{
		Code: int32(codes.NotFound), Message: "gone", Details: []*anypb.Any{whole},
	}).Err(), "")
	if err.Code != codes.NotFound || err.Message != "gone" || err.Reason != "" {
		t.Error(err)
	}
}

func TestErrorUnwrapsToTheContextsError(t *testing.T) {
	late := errorOf(t.Context(), status.Error(codes.DeadlineExceeded, "late"), "")
	if !errors.Is(late, context.DeadlineExceeded) || late.Retryable() {
		t.Error(late)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelledByProxy := errorOf(ctx, status.Error(codes.Canceled, "by a proxy"), "")
	if !cancelledByProxy.Retryable() || errors.Is(cancelledByProxy, context.Canceled) {
		t.Error("a call that a proxy cancelled must be retryable")
	}
	cancel()
	cancelledByCaller := errorOf(ctx, status.Error(codes.Canceled, "by its caller"), "")
	if cancelledByCaller.Retryable() || !errors.Is(cancelledByCaller, context.Canceled) {
		t.Error("a call that its caller cancelled must not be retryable")
	}
}

func TestViolationsReplaceTheirNumberInTheMessage(t *testing.T) {
	err := &Error{
		Message: "event: must not be empty (and 1 more)",
		Reason:  ErrInvalidField,
		Violations: []FieldViolation{
			{Field: "event", Description: "must not be empty"},
			{Field: "instance_id", Description: "must be at most 128 characters"},
		},
	}
	want := "perdure: event: must not be empty (INVALID_FIELD); instance_id: must be at most 128 characters"
	if text := err.Error(); text != want {
		t.Error(text)
	}
}
