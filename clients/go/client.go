package perdure

import (
	"crypto/tls"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// DefaultTarget is the default address of a server.
const DefaultTarget = "127.0.0.1:7420"

// NoTimeout removes the limit of [Options.Timeout], [WatchOptions.ReconnectTimeout] or [WaitOptions.ReconnectTimeout].
// So does any value above ten years.
const NoTimeout time.Duration = math.MaxInt64

const callTimeoutDefault = 30 * time.Second

// Options are the settings of a [Client]. The zero value connects without TLS and uses the defaults below.
type Options struct {
	// TLS enables TLS. nil means plain text. [LoadTLS] creates a config from PEM files.
	TLS *tls.Config
	// Timeout limits a call whose context has no deadline, including retries. 0 means 30 s. [NoTimeout] removes the limit.
	Timeout time.Duration
	// Retry controls how the client retries calls. The zero value uses the defaults. [NoRetries] disables retries.
	Retry CallRetryPolicy
	// Metadata is sent with every call, for example "authorization": "Bearer ...".
	Metadata map[string]string
	// DialOptions are passed to gRPC after the client's own, for example interceptors or a dialer.
	DialOptions []grpc.DialOption
}

// Client is a connection to a perdure server. It is safe for concurrent use. Create one and share it.
type Client struct {
	connection *grpc.ClientConn
	watches    watchConnections
	runner     perdurev1.RunnerServiceClient
	instances  perdurev1.InstanceServiceClient
	timers     perdurev1.TimerServiceClient
	workflows  perdurev1.WorkflowServiceClient
	server     perdurev1.ServerServiceClient
	health     grpc_health_v1.HealthClient

	timeout  time.Duration
	retry    CallRetryPolicy
	metadata []string
	closed   atomic.Bool
}

// New creates a client for the server at target, a gRPC target such as "host:7420" or "unix:/run/perdure.sock". It does
// not connect. The first call connects. options can be nil.
//
// Fails with ErrInvalidField if an option is invalid, for example if Timeout is negative.
func New(target string, options *Options) (*Client, error) {
	given := orDefault(options)
	if err := checkNotNegative("Timeout", given.Timeout); err != nil {
		return nil, err
	}
	if err := given.Retry.check(); err != nil {
		return nil, err
	}
	dial := dialOptions(given.TLS)
	connection, err := grpc.NewClient(target, slices.Concat(dial, given.DialOptions)...)
	if err != nil {
		return nil, fmt.Errorf("perdure: cannot create a connection to %q: %w", target, err)
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
		health:    grpc_health_v1.NewHealthClient(connection),
		timeout:   given.Timeout,
		retry:     given.Retry.withDefaults(),
	}
	if client.timeout == 0 {
		client.timeout = callTimeoutDefault
	}
	for key, value := range given.Metadata {
		client.metadata = append(client.metadata, key, value)
	}
	return client, nil
}

// Close closes every connection. Calls and watches in progress fail. A second call has no effect.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.watches.close()
	return c.connection.Close()
}

// Connection returns the gRPC connection, for use with the generated stubs in perdure.dev/go/perdure/v1. Calls on it are
// not retried and fail with gRPC's own errors.
func (c *Client) Connection() grpc.ClientConnInterface {
	return c.connection
}
