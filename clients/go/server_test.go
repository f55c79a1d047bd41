package perdure_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

// stubServer is a gRPC server in this process that returns the responses of the test. It covers responses that a real
// server cannot be made to return. The conformance scenarios cover a real server.
type stubServer struct {
	perdurev1.UnimplementedRunnerServiceServer
	perdurev1.UnimplementedInstanceServiceServer
	grpc_health_v1.UnimplementedHealthServer

	mutex   sync.Mutex
	starts  []*perdurev1.StartInstanceRequest
	watches []*perdurev1.WatchInstanceRequest
	checks  []string
	left    chan struct{} // closed when the client leaves a stream that stays open

	start func(number int) error
	watch []stream
	list  func(*perdurev1.ListInstancesRequest) *perdurev1.ListInstancesResponse
	check func(service string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error)
}

// stream is one stream of a watch: its responses, and its error.
type stream struct {
	responses []*perdurev1.WatchInstanceResponse
	err       error
	staysOpen bool
}

func (s *stubServer) StartInstance(
	_ context.Context, request *perdurev1.StartInstanceRequest,
) (*perdurev1.StartInstanceResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.starts = append(s.starts, request)
	if err := s.start(len(s.starts)); err != nil {
		return nil, err
	}
	return &perdurev1.StartInstanceResponse{InstanceId: "i1", Created: true, Version: 1, Revision: 1}, nil
}

func (s *stubServer) ListInstances(
	_ context.Context, request *perdurev1.ListInstancesRequest,
) (*perdurev1.ListInstancesResponse, error) {
	return s.list(request), nil
}

func (s *stubServer) WatchInstance(
	request *perdurev1.WatchInstanceRequest, responses grpc.ServerStreamingServer[perdurev1.WatchInstanceResponse],
) error {
	s.mutex.Lock()
	current := s.watch[len(s.watches)]
	s.watches = append(s.watches, request)
	s.mutex.Unlock()
	for _, response := range current.responses {
		if err := responses.Send(response); err != nil {
			return err
		}
	}
	if current.staysOpen {
		<-responses.Context().Done()
		close(s.left)
	}
	return current.err
}

func (s *stubServer) Check(
	_ context.Context, request *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.checks = append(s.checks, request.GetService())
	status, err := s.check(request.GetService())
	return &grpc_health_v1.HealthCheckResponse{Status: status}, err
}

// sent returns the StartInstance requests so far. If a caller gave up, its request can arrive later.
func (s *stubServer) sent() []*perdurev1.StartInstanceRequest {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.starts)
}

// watched returns the WatchInstance requests so far.
func (s *stubServer) watched() []*perdurev1.WatchInstanceRequest {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.watches)
}

// checked returns the services of the health checks so far.
func (s *stubServer) checked() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.checks)
}

// serve starts the server and returns a client for it. Both end with the test.
func serve(t *testing.T, server *stubServer, options perdure.Options) *perdure.Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	grpcServer := grpc.NewServer()
	perdurev1.RegisterRunnerServiceServer(grpcServer, server)
	perdurev1.RegisterInstanceServiceServer(grpcServer, server)
	grpc_health_v1.RegisterHealthServer(grpcServer, server)
	go func() { _ = grpcServer.Serve(listener) }()
	t.Cleanup(grpcServer.Stop)

	dial := func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
	options.DialOptions = append(options.DialOptions, grpc.WithContextDialer(dial))
	client, err := perdure.New("passthrough:///in-process", &options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// fastRetry is a policy for tests that retry.
var fastRetry = perdure.CallRetryPolicy{InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond}

// rejection is an error in the form in which the server sends it.
func rejection(code codes.Code, reason perdure.Reason, more ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{Reason: string(reason), Domain: "perdure"}
	detailed, err := status.New(code, "rejected").WithDetails(append(more, protoadapt.MessageV1Of(info))...)
	if err != nil {
		panic(err)
	}
	return detailed.Err()
}

func retryAfter(pause time.Duration) protoadapt.MessageV1 {
	return protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(pause)})
}
