package perdure

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// call sends a request until it succeeds, is rejected, or runs out of time.
func call[Q proto.Message, A any](
	ctx context.Context,
	c *Client,
	send func(context.Context, Q, ...grpc.CallOption) (A, error),
	request Q,
	requestID string,
) (A, error) {
	return callWith(ctx, c, c.retry, c.timeout, send, request, requestID)
}

// callWith is call with its own retry policy and timeout. The timeout applies to a context without a deadline.
func callWith[Q proto.Message, A any](
	ctx context.Context,
	c *Client,
	retry CallRetryPolicy,
	timeout time.Duration,
	send func(context.Context, Q, ...grpc.CallOption) (A, error),
	request Q,
	requestID string,
) (A, error) {
	if _, bounded := ctx.Deadline(); !bounded && timeout <= timeoutMax {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	deadline, bounded := ctx.Deadline()
	attempts := newAttempts(retry, deadline)
	outgoing := c.outgoing(ctx)
	for {
		response, err := send(outgoing, request)
		if err == nil {
			return response, nil
		}
		failure := errorOf(ctx, err, requestID)
		if failure.Code == codes.Internal {
			failure = refineUnsendable(failure, request)
		}
		if failure.Code == codes.DeadlineExceeded && !bounded {
			// The server's own limit. It does not end a call that has no deadline.
			failure.Code, failure.cause = codes.Unavailable, nil
		}
		pause, again := attempts.pauseAfter(failure)
		if !again || c.closed.Load() {
			var none A
			return none, failure
		}
		if err := sleep(ctx, pause, failure); err != nil {
			var none A
			return none, err
		}
	}
}

func (c *Client) outgoing(ctx context.Context) context.Context {
	if len(c.metadata) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, c.metadata...)
}

// pages iterates over the items of all pages. A page can be empty although more pages follow.
func pages[M, A any](
	fetch func(token string) (items []M, next string, err error), convert func(M) A,
) iter.Seq2[A, error] {
	return func(yield func(A, error) bool) {
		token := ""
		for {
			items, next, err := fetch(token)
			if err != nil {
				var none A
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(convert(item), nil) {
					return
				}
			}
			if next == "" {
				return
			}
			token = next
		}
	}
}
