package perdure

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// The connection and one call over it live here. What a call says lives in the file of its service.

// DefaultTarget is where a server listens unless told otherwise.
const DefaultTarget = "127.0.0.1:7420"

const (
	callTimeoutDefault = 30 * time.Second

	// After how long a silence a connection with open calls is pinged. Servers allow one ping each 10 s.
	keepaliveTime = 30 * time.Second
	// How long the answer to a ping may take before the connection counts as lost.
	keepaliveTimeout = 10 * time.Second

	// Between which pauses a lost connection is dialled again, and how long one dial may take.
	reconnectMin   = 100 * time.Millisecond
	reconnectMax   = 5 * time.Second
	connectTimeout = 5 * time.Second

	// Above anything that a server sends: an instance's payloads are at most 3 MiB.
	receiveBytesMax = 16 << 20
)

// NoTimeout as [Options.Timeout] or [WatchOptions.Outage] removes the limit. So does anything above ten years.
const NoTimeout time.Duration = math.MaxInt64

// timeoutMax is ten years.
const timeoutMax = 10 * 366 * 24 * time.Hour

// Options are the settings of a [Client]. The zero value is good for a server on this machine.
type Options struct {
	// TLS turns TLS on; nil means plain text. [LoadTLS] makes one from PEM files.
	TLS *tls.Config
	// Timeout limits a call, including retries, whose context has no deadline. 0 means 30 s, [NoTimeout] no limit.
	Timeout time.Duration
	// CallRetryPolicy says how calls are sent again; the zero value is a good choice. [NoRetries] turns them off.
	CallRetryPolicy CallRetryPolicy
	// Metadata is sent with every call, for example "authorization": "Bearer ...".
	Metadata map[string]string
	// DialOptions are given to gRPC after the client's own: interceptors, a user agent, a dialer.
	DialOptions []grpc.DialOption
}

// Client is a connection to a perdure server. It is safe for concurrent use; make one and keep it.
type Client struct {
	connection *grpc.ClientConn
	watches    watchConnections
	runner     perdurev1.RunnerServiceClient
	instances  perdurev1.InstanceServiceClient
	timers     perdurev1.TimerServiceClient
	workflows  perdurev1.WorkflowServiceClient
	server     perdurev1.ServerServiceClient

	timeout  time.Duration
	retries  CallRetryPolicy
	metadata []string
	closed   atomic.Bool
}

// New makes a client of the server at target, a gRPC target such as "host:7420" or "unix:/run/perdure.sock". It does
// not connect: the first call does. options may be nil. It fails with ErrInvalidField for a negative Timeout and for
// CallRetryPolicy that cannot work.
func New(target string, options *Options) (*Client, error) {
	given := orDefault(options)
	if given.Timeout < 0 {
		return nil, invalidField("Timeout", fmt.Sprintf("must not be negative: %v", given.Timeout))
	}
	if err := given.CallRetryPolicy.check(); err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if given.TLS != nil {
		transport = credentials.NewTLS(given.TLS)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("perdure-go"),
		// What may be sent again, and when, is decided in this package and not by a record in the DNS.
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
	connection, err := grpc.NewClient(target, slices.Concat(dial, given.DialOptions)...)
	if err != nil {
		return nil, err
	}
	watching := slices.Concat(dial, []grpc.DialOption{grpc.WithIdleTimeout(watchIdleTimeout)}, given.DialOptions)
	client := &Client{
		connection: connection,
		watches: watchConnections{
			connect: func() (*grpc.ClientConn, error) { return grpc.NewClient(target, watching...) },
		},
		runner:    perdurev1.NewRunnerServiceClient(connection),
		instances: perdurev1.NewInstanceServiceClient(connection),
		timers:    perdurev1.NewTimerServiceClient(connection),
		workflows: perdurev1.NewWorkflowServiceClient(connection),
		server:    perdurev1.NewServerServiceClient(connection),
		timeout:   given.Timeout,
		retries:   given.CallRetryPolicy.withDefaults(),
	}
	if client.timeout == 0 {
		client.timeout = callTimeoutDefault
	}
	for key, value := range given.Metadata {
		client.metadata = append(client.metadata, key, value)
	}
	return client, nil
}

// Close ends every connection. Calls and watches in progress fail. It can be called twice.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.watches.close()
	return c.connection.Close()
}

// Connection gives the gRPC connection, for the generated stubs and for grpc.health.v1. Calls made on it directly are
// not retried and fail with gRPC's own errors.
func (c *Client) Connection() grpc.ClientConnInterface {
	return c.connection
}

// call sends a request until it is answered, refused for good, or out of time.
func call[Q proto.Message, A any](
	ctx context.Context,
	c *Client,
	send func(context.Context, Q, ...grpc.CallOption) (A, error),
	request Q,
	requestID string,
) (A, error) {
	return callWith(ctx, c, c.retries, c.timeout, send, request, requestID)
}

// callWith is call with other retries, and another timeout for a context without a deadline.
func callWith[Q proto.Message, A any](
	ctx context.Context,
	c *Client,
	retries CallRetryPolicy,
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
	attempts := newAttempts(retries, deadline)
	outgoing := c.outgoing(ctx)
	for {
		answer, err := send(outgoing, request)
		if err == nil {
			return answer, nil
		}
		failure := errorOf(ctx, err, requestID)
		if failure.Status == codes.Internal {
			failure = refineUnsendable(failure, request)
		}
		if failure.Status == codes.DeadlineExceeded && !bounded {
			// The server's own limit. It does not end a call that has none.
			failure.Status, failure.cause = codes.Unavailable, nil
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

// requestIDOr gives the caller's request id, or one that no other call has: no mutating call leaves without.
func requestIDOr(given string) string {
	if given != "" {
		return given
	}
	return rand.Text()
}

func orDefault[T any](options *T) T {
	if options == nil {
		var zero T
		return zero
	}
	return *options
}
