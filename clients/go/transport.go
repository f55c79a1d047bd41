package perdure

import (
	"context"
	"crypto/tls"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	// keepaliveTime is the time without traffic after which a connection with open calls is pinged. Servers allow one
	// ping every 10 s.
	keepaliveTime = 30 * time.Second
	// keepaliveTimeout is the time to wait for the response to a ping before the connection is closed.
	keepaliveTimeout = 10 * time.Second

	// reconnectMin and reconnectMax limit the backoff between two attempts to connect.
	reconnectMin = 100 * time.Millisecond
	reconnectMax = 5 * time.Second
	// connectTimeout limits one attempt to connect.
	connectTimeout = 5 * time.Second

	// receiveBytesMax is larger than any response: an instance's payloads are at most 3 MiB.
	receiveBytesMax = 16 << 20
)

// dialOptions are the client's own settings of a gRPC connection.
func dialOptions(config *tls.Config) []grpc.DialOption {
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("perdure-go"),
		// This package decides which calls are retried. A service config from the DNS must not.
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: reconnectMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax)),
	}
}

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
