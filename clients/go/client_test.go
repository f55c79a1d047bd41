package perdure_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

func TestACallIsSentAgainWithTheSameRequestID(t *testing.T) {
	server := &scripted{start: func(number int) error {
		switch number {
		case 1:
			return status.Error(codes.Unavailable, "the connection broke")
		case 2:
			return refusal(codes.Unavailable, perdure.ErrOutcomeUnknown)
		case 3:
			return refusal(codes.ResourceExhausted, perdure.ErrOverloaded, retryAfter(time.Millisecond))
		default:
			return nil
		}
	}}
	started, err := serve(t, server, perdure.Options{CallRetryPolicy: quick}).StartInstance(t.Context(), "order", nil, nil)
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

func TestTwoCallsHaveTwoRequestIDs(t *testing.T) {
	server := &scripted{start: func(int) error { return nil }}
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

func TestARefusalForGoodIsNotSentAgain(t *testing.T) {
	for name, refused := range map[string]error{
		"a wrong field":              refusal(codes.InvalidArgument, perdure.ErrInvalidField),
		"a payload too large":        refusal(codes.ResourceExhausted, perdure.ErrPayloadTooLarge),
		"gRPC's own size limit":      status.Error(codes.ResourceExhausted, "message larger than max"),
		"a reason of a newer server": refusal(codes.FailedPrecondition, "SOMETHING_NEW"),
	} {
		server := &scripted{start: func(int) error { return refused }}
		_, err := serve(t, server, perdure.Options{CallRetryPolicy: quick}).StartInstance(t.Context(), "order", nil, nil)
		if status.Code(err) != status.Code(refused) || len(server.sent()) != 1 {
			t.Errorf("%s: %v, sent %d times", name, err, len(server.sent()))
		}
	}
}

func TestTheDeadlineBoundsTheRetriesAndTheLastErrorIsTold(t *testing.T) {
	server := &scripted{start: func(int) error { return refusal(codes.Unavailable, perdure.ErrShuttingDown) }}
	client := serve(t, server, perdure.Options{CallRetryPolicy: quick, Timeout: 500 * time.Millisecond})
	_, err := client.StartInstance(t.Context(), "order", nil, &perdure.StartOptions{RequestID: "mine"})
	var failure *perdure.Error
	if !errors.As(err, &failure) || failure.RequestID != "mine" || len(server.sent()) < 2 {
		t.Fatal(err, len(server.sent()))
	}
	if !errors.Is(err, perdure.ErrShuttingDown) && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestACallCancelledInAPauseSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := &scripted{start: func(int) error {
		cancel()
		return refusal(codes.Unavailable, perdure.ErrShuttingDown)
	}}
	_, err := serve(t, server, perdure.Options{}).StartInstance(ctx, "order", nil, nil)
	if !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled || len(server.sent()) != 1 {
		t.Error(err, len(server.sent()))
	}
}

func TestAClosedClientFailsAtOnce(t *testing.T) {
	client := serve(t, &scripted{}, perdure.Options{})
	if err := errors.Join(client.Close(), client.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.GetInstance(t.Context(), "i1"); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

func TestAListGoesFromPageToPageAndStopsWhereItsReaderDoes(t *testing.T) {
	var tokens []string
	server := &scripted{list: func(request *perdurev1.ListInstancesRequest) *perdurev1.ListInstancesResponse {
		tokens = append(tokens, request.GetPageToken())
		next := map[string]string{"": "second", "second": "third"}[request.GetPageToken()]
		return &perdurev1.ListInstancesResponse{
			Instances:     []*perdurev1.InstanceSummary{{InstanceId: "of page " + request.GetPageToken()}},
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

func TestAStateOfANewerServerIsUnknown(t *testing.T) {
	server := &scripted{list: func(*perdurev1.ListInstancesRequest) *perdurev1.ListInstancesResponse {
		return &perdurev1.ListInstancesResponse{Instances: []*perdurev1.InstanceSummary{{State: 77}}}
	}}
	for instance, err := range serve(t, server, perdure.Options{}).ListInstances(t.Context(), nil) {
		if err != nil || instance.State != "UNKNOWN" || instance.State.HasEnded() {
			t.Error(instance, err)
		}
	}
}

func TestATextThatIsNotUTF8IsNamed(t *testing.T) {
	client := serve(t, &scripted{}, perdure.Options{})
	_, err := client.StartInstance(t.Context(), "order", perdure.JSON("{\"a\": \"\xff\"}"), &perdure.StartOptions{
		Labels: map[string]string{"a": "\xfe"},
	})
	var failure *perdure.Error
	if !errors.As(err, &failure) || failure.Reason != perdure.ErrInvalidField {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	for _, violation := range failure.Violations {
		fields[violation.Field] = true
	}
	if !fields["context.json"] || !fields["opts.labels"] || len(fields) != 2 {
		t.Error(failure.Violations)
	}
}
