package perdure_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

func TestRetryUsesTheSameRequestID(t *testing.T) {
	server := &stubServer{start: func(number int) error {
		switch number {
		case 1:
			return status.Error(codes.Unavailable, "the connection broke")
		case 2:
			return rejection(codes.Unavailable, perdure.ErrCommitUnknown)
		case 3:
			return rejection(codes.ResourceExhausted, perdure.ErrOverloaded, retryAfter(time.Millisecond))
		default:
			return nil
		}
	}}
	started, err := serve(t, server, perdure.Options{Retry: fastRetry}).StartInstance(t.Context(), "order", nil, nil)
	if err != nil || started.InstanceID != "i1" || !started.Created {
		t.Fatal(started, err)
	}
	if len(server.sent()) != 4 {
		t.Fatalf("sent %d times", len(server.sent()))
	}
	first := server.sent()[0].GetOpts().GetRequestId()
	for _, sent := range server.sent() {
		if id := sent.GetOpts().GetRequestId(); id == "" || id != first {
			t.Errorf("sent with the request id %q after %q", id, first)
		}
	}
}

func TestEachCallHasItsOwnRequestID(t *testing.T) {
	server := &stubServer{start: func(int) error { return nil }}
	client := serve(t, server, perdure.Options{})
	for range 2 {
		if _, err := client.StartInstance(t.Context(), "order", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if server.sent()[0].GetOpts().GetRequestId() == server.sent()[1].GetOpts().GetRequestId() {
		t.Error("the same request id for two calls")
	}
}

func TestPermanentRejectionIsNotRetried(t *testing.T) {
	for name, rejected := range map[string]error{
		"an invalid field":           rejection(codes.InvalidArgument, perdure.ErrInvalidField),
		"a large payload":            rejection(codes.ResourceExhausted, perdure.ErrPayloadTooLarge),
		"gRPC's own size limit":      status.Error(codes.ResourceExhausted, "message larger than max"),
		"a reason of a newer server": rejection(codes.FailedPrecondition, "SOMETHING_NEW"),
	} {
		server := &stubServer{start: func(int) error { return rejected }}
		_, err := serve(t, server, perdure.Options{Retry: fastRetry}).StartInstance(t.Context(), "order", nil, nil)
		if status.Code(err) != status.Code(rejected) || len(server.sent()) != 1 {
			t.Errorf("%s: %v, sent %d times", name, err, len(server.sent()))
		}
	}
}

func TestDeadlineLimitsRetriesAndKeepsTheLastError(t *testing.T) {
	server := &stubServer{start: func(int) error { return rejection(codes.Unavailable, perdure.ErrShuttingDown) }}
	client := serve(t, server, perdure.Options{Retry: fastRetry, Timeout: 500 * time.Millisecond})
	_, err := client.StartInstance(t.Context(), "order", nil, &perdure.StartOptions{RequestID: "mine"})
	var failure *perdure.Error
	if !errors.As(err, &failure) || failure.RequestID != "mine" || len(server.sent()) < 2 {
		t.Fatal(err, len(server.sent()))
	}
	if !errors.Is(err, perdure.ErrShuttingDown) && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestCancelDuringBackoffReturnsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := &stubServer{start: func(int) error {
		cancel()
		return rejection(codes.Unavailable, perdure.ErrShuttingDown)
	}}
	_, err := serve(t, server, perdure.Options{}).StartInstance(ctx, "order", nil, nil)
	if !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled || len(server.sent()) != 1 {
		t.Error(err, len(server.sent()))
	}
}

func TestClosedClientFailsImmediately(t *testing.T) {
	client := serve(t, &stubServer{}, perdure.Options{})
	if err := errors.Join(client.Close(), client.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.GetInstance(t.Context(), "i1"); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

func TestListRequestsPagesUntilTheReaderStops(t *testing.T) {
	var tokens []string
	server := &stubServer{list: func(request *perdurev1.ListInstancesRequest) *perdurev1.ListInstancesResponse {
		tokens = append(tokens, request.GetPageToken())
		next := map[string]string{"": "second", "second": "third"}[request.GetPageToken()]
		return &perdurev1.ListInstancesResponse{
			Instances:     []*perdurev1.InstanceSummary{{InstanceId: "on page " + request.GetPageToken()}},
			NextPageToken: next,
		}
	}}
	client := serve(t, server, perdure.Options{})
	count := 0
	for _, err := range client.ListInstances(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if count++; count == 2 {
			break
		}
	}
	if len(tokens) != 2 || tokens[1] != "second" {
		t.Error(tokens)
	}
}

func TestStateOfANewerServerIsUnknown(t *testing.T) {
	server := &stubServer{list: func(*perdurev1.ListInstancesRequest) *perdurev1.ListInstancesResponse {
		return &perdurev1.ListInstancesResponse{Instances: []*perdurev1.InstanceSummary{{State: 77}}}
	}}
	for instance, err := range serve(t, server, perdure.Options{}).ListInstances(t.Context(), nil) {
		if err != nil || instance.State != "UNKNOWN" || instance.State.HasEnded() {
			t.Error(instance, err)
		}
	}
}

func TestHealthCheckReturnsTheServersStatus(t *testing.T) {
	newer := grpc_health_v1.HealthCheckResponse_ServingStatus(77)
	for service, want := range map[string]struct {
		status grpc_health_v1.HealthCheckResponse_ServingStatus
		health perdure.Health
	}{
		"":         {grpc_health_v1.HealthCheckResponse_NOT_SERVING, perdure.HealthNotServing},
		"liveness": {grpc_health_v1.HealthCheckResponse_SERVING, perdure.HealthServing},
		"unset":    {grpc_health_v1.HealthCheckResponse_UNKNOWN, perdure.HealthUnknown},
		"newer":    {newer, perdure.HealthUnknown},
	} {
		server := &stubServer{check: func(string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
			return want.status, nil
		}}
		health, err := serve(t, server, perdure.Options{}).CheckHealth(t.Context(), service)
		if err != nil || health != want.health || !slices.Equal(server.checked(), []string{service}) {
			t.Errorf("%s: %s %v, asked for %q", service, health, err, server.checked())
		}
	}
}

func TestHealthCheckIsNotRetried(t *testing.T) {
	server := &stubServer{check: func(string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
		return 0, status.Error(codes.Unavailable, "starting")
	}}
	health, err := serve(t, server, perdure.Options{Retry: fastRetry}).CheckHealth(t.Context(), "")
	if health != "" || status.Code(err) != codes.Unavailable || len(server.checked()) != 1 {
		t.Error(health, err, len(server.checked()))
	}
}
