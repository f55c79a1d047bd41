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
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

// scripted is a gRPC server in this process whose answers the test has written: what a real server cannot be made to
// say at will. What a real server says is the conformance scenarios' business.
type scripted struct {
	perdurev1.UnimplementedRunnerServiceServer
	perdurev1.UnimplementedInstanceServiceServer

	mutex   sync.Mutex
	starts  []*perdurev1.StartInstanceRequest
	watches []*perdurev1.WatchInstanceRequest
	left    chan struct{} // closed when a stream that stays open is left

	start func(number int) error
	watch []stream
	list  func(*perdurev1.ListInstancesRequest) *perdurev1.ListInstancesResponse
}

// stream is what one connection of a watch gives, and how it ends.
type stream struct {
	says  []*perdurev1.WatchInstanceResponse
	fails error
	stays bool
}

func (s *scripted) StartInstance(
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

func (s *scripted) ListInstances(
	_ context.Context, request *perdurev1.ListInstancesRequest,
) (*perdurev1.ListInstancesResponse, error) {
	return s.list(request), nil
}

func (s *scripted) WatchInstance(
	request *perdurev1.WatchInstanceRequest, responses grpc.ServerStreamingServer[perdurev1.WatchInstanceResponse],
) error {
	s.mutex.Lock()
	said := s.watch[len(s.watches)]
	s.watches = append(s.watches, request)
	s.mutex.Unlock()
	for _, response := range said.says {
		if err := responses.Send(response); err != nil {
			return err
		}
	}
	if said.stays {
		<-responses.Context().Done()
		close(s.left)
	}
	return said.fails
}

// sent gives the starts that have come so far; one whose caller has given up may still be on its way.
func (s *scripted) sent() []*perdurev1.StartInstanceRequest {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.starts)
}

// watched gives the watches that have been asked for so far.
func (s *scripted) watched() []*perdurev1.WatchInstanceRequest {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.watches)
}

// serve starts the server and gives a client of it; both end with the test.
func serve(t *testing.T, server *scripted, options perdure.Options) *perdure.Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	grpcServer := grpc.NewServer()
	perdurev1.RegisterRunnerServiceServer(grpcServer, server)
	perdurev1.RegisterInstanceServiceServer(grpcServer, server)
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

var quick = perdure.CallRetryPolicy{InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond}

// refusal is an error as the server raises it.
func refusal(code codes.Code, reason perdure.Reason, more ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{Reason: string(reason), Domain: "perdure"}
	detailed, err := status.New(code, "refused").WithDetails(append(more, protoadapt.MessageV1Of(info))...)
	if err != nil {
		panic(err)
	}
	return detailed.Err()
}

func retryAfter(pause time.Duration) protoadapt.MessageV1 {
	return protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(pause)})
}
