package perdure

import (
	"context"
	"iter"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// GetTimer returns a pending timer. Fails with ErrTimerNotFound, ErrInvalidField.
func (c *Client) GetTimer(ctx context.Context, reference string) (*Timer, error) {
	response, err := call(ctx, c, c.timers.GetTimer, &perdurev1.GetTimerRequest{Reference: reference}, "")
	if err != nil {
		return nil, err
	}
	return timerOf(response.GetTimer()), nil
}

// ListTimersOptions are the options of [Client.ListTimers].
type ListTimersOptions struct {
	// InstanceID selects the timers of one instance. Empty selects all timers.
	InstanceID string
	// PageSize is the number of timers per request. 0 means 100.
	PageSize int
}

// ListTimers returns pending timers in order of due time. It requests one page after another. An error is the last item.
func (c *Client) ListTimers(ctx context.Context, options *ListTimersOptions) iter.Seq2[*Timer, error] {
	given := orDefault(options)
	return pages(func(token string) ([]*perdurev1.Timer, string, error) {
		size, err := pageSize(given.PageSize)
		if err != nil {
			return nil, "", err
		}
		response, err := call(ctx, c, c.timers.ListTimers, &perdurev1.ListTimersRequest{
			InstanceId: given.InstanceID,
			PageSize:   size,
			PageToken:  token,
		}, "")
		return response.GetTimers(), response.GetNextPageToken(), err
	}, timerOf)
}

// CancelTimerOptions are the options of [Client.CancelTimer].
type CancelTimerOptions struct {
	// RequestID identifies the call among the instance's CancelTimer calls. By default the client generates one.
	RequestID string
}

// CancelTimer cancels a timer of kind TIMEOUT and returns the instance's revision after that. Fails with
// ErrTimerNotFound, ErrTimerNotCancellable, ErrInvalidField, ErrRequestIDReused.
func (c *Client) CancelTimer(
	ctx context.Context, reference string, options *CancelTimerOptions,
) (revision int64, err error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	response, err := call(ctx, c, c.timers.CancelTimer, &perdurev1.CancelTimerRequest{
		Reference: reference,
		Opts:      &perdurev1.CancelTimerOptions{RequestId: requestID},
	}, requestID)
	return response.GetRevision(), err
}

// FireTimerOptions are the options of [Client.FireTimer].
type FireTimerOptions struct {
	// RequestID identifies the call among the instance's FireTimer calls. By default the client generates one.
	RequestID string
}

// FiredTimer is the result of [Client.FireTimer].
type FiredTimer struct {
	// Revision of the instance after this call.
	Revision int64
	// Used is false if the timer had no effect, because its step had finished or had not started.
	Used bool
}

// FireTimer fires a pending timer of any kind immediately. Fails with ErrTimerNotFound, ErrInvalidField,
// ErrRequestIDReused.
func (c *Client) FireTimer(ctx context.Context, reference string, options *FireTimerOptions) (*FiredTimer, error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	response, err := call(ctx, c, c.timers.FireTimer, &perdurev1.FireTimerRequest{
		Reference: reference,
		Opts:      &perdurev1.FireTimerOptions{RequestId: requestID},
	}, requestID)
	if err != nil {
		return nil, err
	}
	return &FiredTimer{Revision: response.GetRevision(), Used: response.GetUsed()}, nil
}
