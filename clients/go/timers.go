package perdure

import (
	"context"
	"iter"
	"time"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// Timers that have not acted yet: looked at, cancelled, made to act early.

// Timer is a timer that has not acted yet.
type Timer struct {
	// Reference is its id.
	Reference  string
	InstanceID string
	// StepRef is the step that it will act on; empty for TimerStart.
	StepRef string
	Kind    TimerKind
	// DueTime by the store's clock.
	DueTime time.Time
	// Owner is the replica that has it armed; empty while none has.
	Owner      string
	CreateTime time.Time
	// ClientRequested is true when ScheduleResume asked for it, false when the workflow's definition did.
	ClientRequested bool
}

// GetTimer gives a pending timer. Refused with ErrTimerNotFound, ErrInvalidField.
func (c *Client) GetTimer(ctx context.Context, reference string) (*Timer, error) {
	answer, err := call(ctx, c, c.timers.GetTimer, &perdurev1.GetTimerRequest{Reference: reference}, "")
	if err != nil {
		return nil, err
	}
	return timerOf(answer.GetTimer()), nil
}

// ListTimersOptions is the optional side of [Client.ListTimers].
type ListTimersOptions struct {
	// InstanceID asks for the timers of one instance only.
	InstanceID string
	// PageSize is how many are fetched at a time; 0 means 100.
	PageSize int
}

// ListTimers gives pending timers, the one that is due first on top, fetching page after page. An error ends it.
func (c *Client) ListTimers(ctx context.Context, options *ListTimersOptions) iter.Seq2[*Timer, error] {
	given := orDefault(options)
	return pages(func(token string) ([]*perdurev1.Timer, string, error) {
		size, err := pageSize(given.PageSize)
		if err != nil {
			return nil, "", err
		}
		answer, err := call(ctx, c, c.timers.ListTimers, &perdurev1.ListTimersRequest{
			InstanceId: given.InstanceID,
			PageSize:   size,
			PageToken:  token,
		}, "")
		return answer.GetTimers(), answer.GetNextPageToken(), err
	}, timerOf)
}

// CancelTimerOptions is the optional side of [Client.CancelTimer].
type CancelTimerOptions struct {
	// RequestID names this call among the instance's CancelTimer calls; empty: the client gives one.
	RequestID string
}

// CancelTimer cancels a timer of kind TIMEOUT and gives the instance's revision after that. Refused with
// ErrTimerNotFound, ErrTimerNotCancellable, ErrInvalidField, ErrRequestIDReused.
func (c *Client) CancelTimer(
	ctx context.Context, reference string, options *CancelTimerOptions,
) (revision int64, err error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	answer, err := call(ctx, c, c.timers.CancelTimer, &perdurev1.CancelTimerRequest{
		Reference: reference,
		Opts:      &perdurev1.CancelTimerOptions{RequestId: requestID},
	}, requestID)
	return answer.GetRevision(), err
}

// FireTimerOptions is the optional side of [Client.FireTimer].
type FireTimerOptions struct {
	// RequestID names this call among the instance's FireTimer calls; empty: the client gives one.
	RequestID string
}

// FiredTimer is the answer to [Client.FireTimer].
type FiredTimer struct {
	// Revision of the instance after this call.
	Revision int64
	// Used is false when the timer's step had finished or not begun, so that nothing followed.
	Used bool
}

// FireTimer makes a pending timer act now, whatever its kind. Refused with ErrTimerNotFound, ErrInvalidField,
// ErrRequestIDReused.
func (c *Client) FireTimer(ctx context.Context, reference string, options *FireTimerOptions) (*FiredTimer, error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	answer, err := call(ctx, c, c.timers.FireTimer, &perdurev1.FireTimerRequest{
		Reference: reference,
		Opts:      &perdurev1.FireTimerOptions{RequestId: requestID},
	}, requestID)
	if err != nil {
		return nil, err
	}
	return &FiredTimer{Revision: answer.GetRevision(), Used: answer.GetUsed()}, nil
}

func timerOf(message *perdurev1.Timer) *Timer {
	return &Timer{
		Reference:  message.GetReference(),
		InstanceID: message.GetInstanceId(),
		StepRef:    message.GetStepRef(),
		Kind:       nameOf[TimerKind](message.GetKind()),
		DueTime:    timeOf(message.GetDueTime()),
		Owner:      message.GetOwner(),
		CreateTime: timeOf(message.GetCreateTime()),
		ClientRequested:  message.GetClientRequested(),
	}
}
