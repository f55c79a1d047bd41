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

// A watch is an iterator and not a channel. Leaving the loop ends the stream, so no goroutine leaks and there is nothing
// to close. The server notices a slow reader, because there is no buffer in between. Errors arrive in order with the
// events. A caller that needs a channel for a select sends to one from the loop.

const (
	reconnectTimeoutDefault = 5 * time.Minute
	// streamMax is the maximum duration of one stream. The client then opens the next one, so that a server that hangs
	// is noticed.
	streamMax = 10 * time.Minute
)

// watchEndsToContinue are the reasons after which the client watches again: the server stops, or it ended a stream that
// was read too slowly.
var watchEndsToContinue = map[WatchEndReason]bool{"SERVER_DRAINING": true, "TOO_SLOW": true}

// WatchEvent is a [*Snapshot], a [*HistoryEntry] or a [*WatchEnd].
type WatchEvent interface{ watchEvent() }

// Snapshot is the instance at the start of the watch. It is the first event, unless WatchOptions.AfterRevision is set.
type Snapshot struct{ Instance *Instance }

// WatchEnd is the last event of a watch. RetryInstance continues a FAILED instance. Watch it again to follow that.
type WatchEnd struct {
	// Revision of the last entry that the watch returned.
	Revision int64
	Reason   WatchEndReason
}

func (*Snapshot) watchEvent()     {}
func (*HistoryEntry) watchEvent() {}
func (*WatchEnd) watchEvent()     {}

// WatchOptions are the options of [Client.WatchInstance].
type WatchOptions struct {
	// AfterRevision, if not nil, omits the snapshot and returns the entries after that revision. 0 returns all entries.
	AfterRevision *int64
	// ReconnectTimeout is how long the client tries to reconnect before the watch fails. 0 means 5 minutes. [NoTimeout]
	// removes the limit. A negative value fails with ErrInvalidField. Until the first response, [Options.Timeout] is the
	// limit.
	ReconnectTimeout time.Duration
	// OnDisconnect, if not nil, is called once when the client has failed twice in a row to get a response. One failure
	// is normal: the client renews streams. The client continues to reconnect.
	OnDisconnect func(error)
	// OnReconnect, if not nil, is called at the first response after OnDisconnect.
	OnReconnect func()
}

// WaitOptions are the options of [Client.WaitForEnd]. Each field means the same as in [WatchOptions].
type WaitOptions struct {
	ReconnectTimeout time.Duration
	OnDisconnect     func(error)
	OnReconnect      func()
}

// WatchInstance returns an instance's events: a snapshot, each later history entry once and in order, then the end.
//
//	for event, err := range client.WatchInstance(ctx, id, nil) {
//		if err != nil {
//			return err
//		}
//		switch event := event.(type) { ... }
//	}
//
// If the stream breaks, the watch continues after the last revision that it returned. The context limits the watch.
// Leaving the loop ends it. Each range over the iterator starts a new watch.
//
// An error is the last item: ErrInstanceNotFound, ErrRevisionInFuture, ErrRevisionCompacted, ErrInvalidField, or a
// retryable error after ReconnectTimeout.
func (c *Client) WatchInstance(
	ctx context.Context, instanceID string, options *WatchOptions,
) iter.Seq2[WatchEvent, error] {
	given := orDefault(options)
	return func(yield func(WatchEvent, error) bool) {
		if err := checkNotNegative("ReconnectTimeout", given.ReconnectTimeout); err != nil {
			yield(nil, err)
			return
		}
		watch := c.newWatch(instanceID, given)
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
			watch.failed(failure)
			if err := sleep(ctx, pause, failure); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// WaitForEnd returns the instance once it is COMPLETED, FAILED or CANCELLED. The context limits the wait. options can be
// nil. Fails with the errors of [Client.WatchInstance].
func (c *Client) WaitForEnd(ctx context.Context, instanceID string, options *WaitOptions) (*Instance, error) {
	given := orDefault(options)
	watch := &WatchOptions{
		ReconnectTimeout: given.ReconnectTimeout,
		OnDisconnect:     given.OnDisconnect,
		OnReconnect:      given.OnReconnect,
	}
	for {
		for _, err := range c.WatchInstance(ctx, instanceID, watch) {
			if err != nil {
				return nil, err
			}
		}
		instance, err := c.GetInstance(ctx, instanceID)
		if err != nil || instance.State.HasEnded() { // otherwise another client has retried it
			return instance, err
		}
	}
}

// watchState is the state of one watch across all its streams.
type watchState struct {
	client     *Client
	instanceID string
	after      *int64
	attempts   *attempts
	options    WatchOptions
}

func (c *Client) newWatch(instanceID string, options WatchOptions) *watchState {
	var deadline time.Time
	if c.timeout <= timeoutMax {
		deadline = time.Now().Add(c.timeout)
	}
	watch := &watchState{
		client:     c,
		instanceID: instanceID,
		attempts:   newAttempts(c.retry, deadline),
		options:    options,
	}
	watch.attempts.reconnectTimeout = options.ReconnectTimeout
	if options.ReconnectTimeout == 0 {
		watch.attempts.reconnectTimeout = reconnectTimeoutDefault
	}
	if options.AfterRevision != nil {
		after := *options.AfterRevision
		watch.after = &after
	}
	return watch
}

// stream reads one stream. It returns nil if the watch is over: the instance has ended, or the reader left the loop.
func (w *watchState) stream(ctx context.Context, yield func(WatchEvent, error) bool) *Error {
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
		w.answered()
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
		if _, ended := event.(*WatchEnd); ended {
			return nil
		}
	}
}

// answered records a response and reports the end of a disconnect.
func (w *watchState) answered() {
	if w.attempts.disconnected() && w.options.OnReconnect != nil {
		w.options.OnReconnect()
	}
	w.attempts.answered()
}

// failed reports the failure that starts a disconnect.
func (w *watchState) failed(failure *Error) {
	if w.attempts.failures == disconnectFailuresMin && w.options.OnDisconnect != nil {
		w.options.OnDisconnect(failure)
	}
}

// take returns the event for a message, or nil if there is none.
func (w *watchState) take(message *perdurev1.WatchInstanceResponse) (WatchEvent, *Error) {
	switch received := message.GetEvent().(type) {
	case *perdurev1.WatchInstanceResponse_Snapshot:
		instance := instanceOf(received.Snapshot)
		w.after = &instance.Revision
		return &Snapshot{Instance: instance}, nil
	case *perdurev1.WatchInstanceResponse_Entry:
		entry := entryOf(received.Entry)
		if w.after != nil && entry.Revision != *w.after+1 {
			// The server guarantees that there is no gap. A caller that folds the entries must not miss one.
			return nil, &Error{
				Code: codes.DataLoss,
				Message: fmt.Sprintf("watch of instance '%s' received revision %d after revision %d",
					w.instanceID, entry.Revision, *w.after),
			}
		}
		w.after = &entry.Revision
		return entry, nil
	case *perdurev1.WatchInstanceResponse_End:
		reason := nameOf[WatchEndReason](received.End.GetReason())
		if watchEndsToContinue[reason] {
			return nil, w.ended()
		}
		return &WatchEnd{Revision: received.End.GetRevision(), Reason: reason}, nil
	default: // a heartbeat, or a message that this version does not know
		return nil, nil
	}
}

func (w *watchState) failure(ctx context.Context, err error, request *perdurev1.WatchInstanceRequest) *Error {
	if errors.Is(err, io.EOF) {
		return w.ended()
	}
	failure := errorOf(ctx, err, "")
	if failure.Code == codes.Internal {
		return refineUnsendable(failure, request)
	}
	if failure.Code == codes.DeadlineExceeded && ctx.Err() == nil {
		// The limit of the stream, not of the watch: it is time for the next stream.
		return &Error{Code: codes.Unavailable, Message: "the stream reached its maximum duration"}
	}
	return failure
}

func (w *watchState) ended() *Error {
	return &Error{
		Code:    codes.Unavailable,
		Message: fmt.Sprintf("the server ended the watch of instance '%s'", w.instanceID),
	}
}
