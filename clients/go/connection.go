package perdure

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
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
