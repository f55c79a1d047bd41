package perdure_test

import (
	"errors"
	"iter"
	"math"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

const (
	watchesInTest = 1000
	streamsMax    = 128
)

// patient is a server whose watches give a snapshot and stay open until the test ends them.
type patient struct {
	perdurev1.UnimplementedRunnerServiceServer
	perdurev1.UnimplementedInstanceServiceServer
	over chan struct{}
}

func (p *patient) WatchInstance(
	_ *perdurev1.WatchInstanceRequest, responses grpc.ServerStreamingServer[perdurev1.WatchInstanceResponse],
) error {
	if err := responses.Send(snapshot(1)); err != nil {
		return err
	}
	select {
	case <-p.over:
		return responses.Send(end(1, finished))
	case <-responses.Context().Done():
		return nil
	}
}

// servePatient listens on loopback and accepts few streams per connection.
func servePatient(t *testing.T) (*patient, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxConcurrentStreams(streamsMax))
	service := &patient{over: make(chan struct{})}
	perdurev1.RegisterRunnerServiceServer(server, service)
	perdurev1.RegisterInstanceServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return service, listener.Addr().String()
}

func TestCallsAreServedBeside1000Watches(t *testing.T) {
	service, target := servePatient(t)
	client, err := perdure.New(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	type reader struct {
		next func() (perdure.WatchEvent, error, bool)
		stop func()
	}
	var readers []reader
	for range watchesInTest {
		next, stop := iter.Pull2(client.WatchInstance(t.Context(), "i1", nil))
		readers = append(readers, reader{next, stop})
		if event, err, more := next(); !more || err != nil {
			t.Fatal(event, err)
		}
	}

	counts := client.WatchCounts()
	for range 20 {
		// Refused, because this server has no such method: it answers, which is what counts.
		_, err := client.GetInstance(t.Context(), "i1")
		var failure *perdure.Error
		if !errors.As(err, &failure) || failure.Status != codes.Unimplemented {
			t.Fatal(err)
		}
	}
	close(service.over)
	for _, reader := range readers {
		if event, err, more := reader.next(); !more || err != nil {
			t.Fatal(event, err)
		}
		reader.stop()
	}

	if len(counts) != 10 || counts[0] != 100 || counts[9] != 100 {
		t.Error(counts)
	}
	if left := client.WatchCounts(); len(left) != 1 || left[0] != 0 {
		t.Error("connections that no watch uses stay open:", left)
	}
}

func TestAWatchOfAClosedClientEnds(t *testing.T) {
	_, target := servePatient(t)
	client, err := perdure.New(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	next, stop := iter.Pull2(client.WatchInstance(t.Context(), "i1", nil))
	defer stop()
	if _, err, _ := next(); err != nil {
		t.Fatal(err)
	}

	_ = client.Close()

	if _, err, more := next(); !more || err == nil {
		t.Error("the watch goes on")
	}
	for _, err := range client.WatchInstance(t.Context(), "i1", nil) {
		if err == nil {
			t.Error("a closed client gave an event")
		}
	}
}

func TestEndlessTimeoutsAreNoDeadline(t *testing.T) {
	server := &scripted{start: func(number int) error {
		if number == 1 {
			return refusal(codes.DeadlineExceeded, "") // the server's own limit
		}
		return nil
	}}
	client := serve(t, server, perdure.Options{Timeout: perdure.NoTimeout, CallRetryPolicy: quick})

	started, err := client.StartInstance(t.Context(), "order", nil, nil)

	if err != nil || started.InstanceID != "i1" {
		t.Fatal(started, err)
	}
}

func TestAWatchWithoutLimitsIsFollowed(t *testing.T) {
	broken := stream{says: []*perdurev1.WatchInstanceResponse{snapshot(1)}, fails: refusal(codes.Unavailable, "")}
	last := stream{says: []*perdurev1.WatchInstanceResponse{entry(2), end(2, finished)}}
	client := serve(t, &scripted{watch: []stream{broken, last}},
		perdure.Options{Timeout: 20 * 366 * 24 * time.Hour, CallRetryPolicy: quick})

	seen, err := revisions(t, client, &perdure.WatchOptions{Outage: perdure.NoTimeout})

	if err != nil || len(seen) != 3 {
		t.Fatal(seen, err)
	}
}

func TestSettingsThatCannotWorkAreRefusedByName(t *testing.T) {
	for field, options := range map[string]perdure.Options{
		"Timeout":             {Timeout: -1},
		"CallRetryPolicy.InitialBackoff":     {CallRetryPolicy: perdure.CallRetryPolicy{InitialBackoff: -1}},
		"CallRetryPolicy.MaxBackoff":         {CallRetryPolicy: perdure.CallRetryPolicy{MaxBackoff: -time.Second}},
		"CallRetryPolicy.Multiplier":  {CallRetryPolicy: perdure.CallRetryPolicy{Multiplier: math.NaN()}},
		"CallRetryPolicy.MaxAttempts": {CallRetryPolicy: perdure.CallRetryPolicy{MaxAttempts: -1}},
	} {
		_, err := perdure.New("127.0.0.1:1", &options)
		refusedField(t, err, field)
	}
	for _, multiplier := range []float64{0.5, -1, math.Inf(1), math.Inf(-1), 1e300} {
		_, err := perdure.New("127.0.0.1:1", &perdure.Options{CallRetryPolicy: perdure.CallRetryPolicy{Multiplier: multiplier}})
		refusedField(t, err, "CallRetryPolicy.Multiplier")
	}
	client, err := perdure.New("127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, err := range client.WatchInstance(t.Context(), "i1", &perdure.WatchOptions{Outage: -1}) {
		refusedField(t, err, "Outage")
	}
	for _, err := range client.ListInstances(t.Context(), &perdure.ListInstancesOptions{PageSize: 1 << 40}) {
		refusedField(t, err, "page_size")
	}
}

func refusedField(t *testing.T, err error, field string) {
	t.Helper()
	var failure *perdure.Error
	if !errors.As(err, &failure) || !errors.Is(err, perdure.ErrInvalidField) ||
		len(failure.Violations) != 1 || failure.Violations[0].Field != field {
		t.Errorf("%s: %v", field, err)
	}
}

func TestAnEmptyJSONIsNoPayload(t *testing.T) {
	server := &scripted{start: func(int) error { return nil }}
	client := serve(t, server, perdure.Options{})

	if _, err := client.StartInstance(t.Context(), "order", perdure.JSON(""), nil); err != nil {
		t.Fatal(err)
	}

	if sent := server.sent()[0].GetContext(); sent != nil {
		t.Error(sent)
	}
}
