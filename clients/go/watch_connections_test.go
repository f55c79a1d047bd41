package perdure_test

import (
	"errors"
	"iter"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

const (
	watchesInTest = 1000
	streamsMax    = 128
)

// openWatchServer is a server whose watches send a snapshot and stay open until the test ends them.
type openWatchServer struct {
	perdurev1.UnimplementedRunnerServiceServer
	perdurev1.UnimplementedInstanceServiceServer
	over chan struct{}
}

func (s *openWatchServer) WatchInstance(
	_ *perdurev1.WatchInstanceRequest, responses grpc.ServerStreamingServer[perdurev1.WatchInstanceResponse],
) error {
	if err := responses.Send(snapshot(1)); err != nil {
		return err
	}
	select {
	case <-s.over:
		return responses.Send(end(1, instanceEnded))
	case <-responses.Context().Done():
		return nil
	}
}

// serveOpenWatches listens on loopback and accepts streamsMax streams per connection.
func serveOpenWatches(t *testing.T) (*openWatchServer, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxConcurrentStreams(streamsMax))
	service := &openWatchServer{over: make(chan struct{})}
	perdurev1.RegisterRunnerServiceServer(server, service)
	perdurev1.RegisterInstanceServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return service, listener.Addr().String()
}

func TestCallsWorkWith1000OpenWatches(t *testing.T) {
	service, target := serveOpenWatches(t)
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
		// The server does not implement the method. Any response shows that the call was not delayed.
		_, err := client.GetInstance(t.Context(), "i1")
		var failure *perdure.Error
		if !errors.As(err, &failure) || failure.Code != codes.Unimplemented {
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
		t.Error("unused watch connections stay open:", left)
	}
}

func TestClosingTheClientEndsItsWatches(t *testing.T) {
	_, target := serveOpenWatches(t)
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
		t.Error("the watch continues")
	}
	for _, err := range client.WatchInstance(t.Context(), "i1", nil) {
		if err == nil {
			t.Error("a closed client returned an event")
		}
	}
}
