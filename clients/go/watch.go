package perdure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc/codes"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// Following an instance across broken connections and server restarts.
//
// A watch is an iterator and not a channel: leaving the loop ends the stream at once, so there is no goroutine to leak
// and nothing to close; a slow reader is felt by the server as such, without a buffer in between; and the error comes
// where the events come, in order. Who needs a channel for a select sends to one from the loop.

const (
	outageDefault = 5 * time.Minute
	// How long one stream lives before the next takes over: a bound on what a hung server can hide.
	streamMax = 10 * time.Minute
)

// WatchEvent is a [*Snapshot], a [*HistoryEntry] or a [*WatchEnd].
type WatchEvent interface{ watchEvent() }

// Snapshot is the instance as it was when the watch began; the first event, without WatchOptions.AfterRevision.
type Snapshot struct{ Instance *Instance }

// WatchEnd is the last event of a watch. A FAILED instance can go on after RetryInstance: watch it anew.
type WatchEnd struct {
	// Revision up to which the watch has told everything.
	Revision int64
	Reason   WatchEndReason
}

func (*Snapshot) watchEvent()     {}
func (*HistoryEntry) watchEvent() {}
func (*WatchEnd) watchEvent()     {}

// WatchOptions is the optional side of [Client.WatchInstance].
type WatchOptions struct {
	// AfterRevision, if not nil, leaves out the snapshot and gives the entries after that revision; 0 gives all.
	AfterRevision *int64
	// Outage is how long the server can be unavailable before the watch fails. 0 means five minutes, [NoTimeout] no
	// limit, and a negative one fails with ErrInvalidField. Until the first response, the client's timeout counts.
	Outage time.Duration
}

// WatchInstance follows an instance: a snapshot, each later history entry once and in order, then the end.
//
//	for event, err := range client.WatchInstance(ctx, id, nil) {
//		if err != nil {
//			return err
//		}
//		switch event := event.(type) { ... }
//	}
//
// A stream that breaks is taken up again after the last revision given out. The context bounds the watch; leaving the
// loop ends it. An error is the last thing that the iterator gives: ErrInstanceNotFound, ErrRevisionInFuture,
// ErrRevisionCompacted, or the server's absence. Ranging over it again begins anew.
func (c *Client) WatchInstance(
	ctx context.Context, instanceID string, options *WatchOptions,
) iter.Seq2[WatchEvent, error] {
	given := orDefault(options)
	return func(yield func(WatchEvent, error) bool) {
		if given.Outage < 0 {
			yield(nil, invalidField("Outage", fmt.Sprintf("must not be negative: %v", given.Outage)))
			return
		}
		watch := &watching{client: c, instanceID: instanceID}
		if given.AfterRevision != nil {
			after := *given.AfterRevision
			watch.after = &after
		}
		var deadline time.Time
		if c.timeout <= timeoutMax {
			deadline = time.Now().Add(c.timeout)
		}
		watch.attempts = newAttempts(c.retries, deadline)
		watch.attempts.outage = given.Outage
		if given.Outage == 0 {
			watch.attempts.outage = outageDefault
		}
		for {
			failure := watch.stream(ctx, yield)
			if failure == nil {
				return
			}
			pause, again := watch.attempts.pauseAfter(failure)
			if !again || c.closed.Load() {
				yield(nil, failure)
				return
			}
			if err := sleep(ctx, pause, failure); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// WaitForEnd gives the instance once it is COMPLETED, FAILED or CANCELLED. The context bounds the wait.
func (c *Client) WaitForEnd(ctx context.Context, instanceID string) (*Instance, error) {
	for {
		for _, err := range c.WatchInstance(ctx, instanceID, nil) {
			if err != nil {
				return nil, err
			}
		}
		instance, err := c.GetInstance(ctx, instanceID)
		if err != nil || instance.State.HasEnded() { // else somebody retried it in between
			return instance, err
		}
	}
}

// watching is where one watch stands, across all its connections.
type watching struct {
	client     *Client
	instanceID string
	after      *int64
	attempts   *attempts
}

// stream follows one connection's stream. It returns nil when the watch is over: ended, or left by its reader.
func (w *watching) stream(ctx context.Context, yield func(WatchEvent, error) bool) *Error {
	bounded, cancel := context.WithTimeout(ctx, streamMax)
	defer cancel()
	request := &perdurev1.WatchInstanceRequest{InstanceId: w.instanceID, AfterRevision: w.after}
	used, err := w.client.watches.acquire()
	if err != nil {
		return w.failure(ctx, err, request)
	}
	defer w.client.watches.release(used)
	instances := perdurev1.NewInstanceServiceClient(used.connection)
	stream, err := instances.WatchInstance(w.client.outgoing(bounded), request)
	if err != nil {
		return w.failure(ctx, err, request)
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return w.failure(ctx, err, request)
		}
		w.attempts.answered()
		event, failure := w.take(message)
		if failure != nil {
			return failure
		}
		if event == nil {
			continue
		}
		if !yield(event, nil) {
			return nil
		}
		if _, over := event.(*WatchEnd); over {
			return nil
		}
	}
}

// take gives what the reader gets to see of a message; nil for nothing.
func (w *watching) take(message *perdurev1.WatchInstanceResponse) (WatchEvent, *Error) {
	switch told := message.GetEvent().(type) {
	case *perdurev1.WatchInstanceResponse_Snapshot:
		instance := instanceOf(told.Snapshot)
		w.after = &instance.Revision
		return &Snapshot{Instance: instance}, nil
	case *perdurev1.WatchInstanceResponse_Entry:
		entry := entryOf(told.Entry)
		if w.after != nil && entry.Revision != *w.after+1 {
			// The server promises better; told aloud, because who folds the entries would be wrong from here.
			return nil, &Error{
				Status: codes.DataLoss,
				Message: fmt.Sprintf("the watch of %s gave revision %d after %d",
					w.instanceID, entry.Revision, *w.after),
			}
		}
		w.after = &entry.Revision
		return entry, nil
	case *perdurev1.WatchInstanceResponse_End:
		switch told.End.GetReason() {
		case perdurev1.WatchEndReason_WATCH_END_REASON_SERVER_DRAINING,
			perdurev1.WatchEndReason_WATCH_END_REASON_TOO_SLOW:
			return nil, &Error{Status: codes.Unavailable, Message: w.brokeOff()}
		}
		return &WatchEnd{
			Revision: told.End.GetRevision(),
			Reason:   nameOf[WatchEndReason](told.End.GetReason()),
		}, nil
	default: // a heartbeat, or something new
		return nil, nil
	}
}

func (w *watching) failure(ctx context.Context, err error, request *perdurev1.WatchInstanceRequest) *Error {
	if errors.Is(err, io.EOF) {
		return &Error{Status: codes.Unavailable, Message: w.brokeOff()}
	}
	failure := errorOf(ctx, err, "")
	if failure.Status == codes.Internal {
		return refineUnsendable(failure, request)
	}
	if failure.Status == codes.DeadlineExceeded && ctx.Err() == nil {
		// Only the stream's own time bound: due for renewal.
		return &Error{Status: codes.Unavailable, Message: "the stream reached its time bound"}
	}
	return failure
}

func (w *watching) brokeOff() string {
	return "the watch of " + w.instanceID + " broke off"
}
