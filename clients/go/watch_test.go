package perdure_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

func snapshot(revision int64) *perdurev1.WatchInstanceResponse {
	return &perdurev1.WatchInstanceResponse{Event: &perdurev1.WatchInstanceResponse_Snapshot{
		Snapshot: &perdurev1.Instance{InstanceId: "i1", Revision: revision},
	}}
}

func entry(revision int64) *perdurev1.WatchInstanceResponse {
	return &perdurev1.WatchInstanceResponse{Event: &perdurev1.WatchInstanceResponse_Entry{
		Entry: &perdurev1.HistoryEntry{
			Revision: revision,
			Fact:     &perdurev1.HistoryEntry_StepFinished{StepFinished: &perdurev1.StepFinished{StepRef: "a", Event: "b"}},
		},
	}}
}

func end(revision int64, reason perdurev1.WatchEndReason) *perdurev1.WatchInstanceResponse {
	return &perdurev1.WatchInstanceResponse{Event: &perdurev1.WatchInstanceResponse_End{
		End: &perdurev1.WatchEnd{Revision: revision, Reason: reason},
	}}
}

const (
	instanceEnded = perdurev1.WatchEndReason_WATCH_END_REASON_INSTANCE_ENDED
	draining      = perdurev1.WatchEndReason_WATCH_END_REASON_SERVER_DRAINING
)

// revisions reads a watch to its end. The revision of the end is negative.
func revisions(t *testing.T, client *perdure.Client, options *perdure.WatchOptions) ([]int64, error) {
	t.Helper()
	var seen []int64
	for event, err := range client.WatchInstance(t.Context(), "i1", options) {
		if err != nil {
			return seen, err
		}
		switch event := event.(type) {
		case *perdure.Snapshot:
			seen = append(seen, event.Instance.Revision)
		case *perdure.HistoryEntry:
			seen = append(seen, event.Revision)
		case *perdure.WatchEnd:
			seen = append(seen, -event.Revision)
		}
	}
	return seen, nil
}

func TestWatchContinuesAfterTheLastRevision(t *testing.T) {
	heartbeat := &perdurev1.WatchInstanceResponse{Event: &perdurev1.WatchInstanceResponse_Heartbeat{
		Heartbeat: &perdurev1.WatchHeartbeat{Revision: 4},
	}}
	server := &stubServer{watch: []stream{
		{err: status.Error(codes.Unavailable, "not up yet")},
		{responses: []*perdurev1.WatchInstanceResponse{snapshot(3), entry(4), heartbeat},
			err: status.Error(codes.Unavailable, "the connection broke")},
		{responses: []*perdurev1.WatchInstanceResponse{entry(5), end(5, draining)}},
		{},
		{responses: []*perdurev1.WatchInstanceResponse{entry(6), end(6, instanceEnded)}},
	}}
	seen, err := revisions(t, serve(t, server, perdure.Options{Retry: fastRetry}), nil)
	if err != nil || !slices.Equal(seen, []int64{3, 4, 5, 6, -6}) {
		t.Fatal(seen, err)
	}
	asked := make([]int64, 0, len(server.watched()))
	for _, request := range server.watched() {
		if request.AfterRevision == nil {
			asked = append(asked, -1)
		} else {
			asked = append(asked, request.GetAfterRevision())
		}
	}
	if !slices.Equal(asked, []int64{-1, -1, 4, 5, 5}) {
		t.Error("requested the revisions after", asked)
	}
}

func TestWatchIgnoresUnknownMessages(t *testing.T) {
	fromTheFuture := &perdurev1.WatchInstanceResponse{}
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("new"))
	fromTheFuture.ProtoReflect().SetUnknown(unknown)
	newFact := &perdurev1.HistoryEntry{Revision: 1}
	newFact.ProtoReflect().SetUnknown(unknown)
	server := &stubServer{watch: []stream{{responses: []*perdurev1.WatchInstanceResponse{
		fromTheFuture,
		{Event: &perdurev1.WatchInstanceResponse_Entry{Entry: newFact}},
		entry(2),
		end(2, instanceEnded),
	}}}}
	var kinds []string
	options := &perdure.WatchOptions{AfterRevision: new(int64(0))}
	for event, err := range serve(t, server, perdure.Options{}).WatchInstance(t.Context(), "i1", options) {
		if err != nil {
			t.Fatal(err)
		}
		if entry, is := event.(*perdure.HistoryEntry); is {
			kinds = append(kinds, entry.Kind+":"+entry.StepRef+":"+entry.Event)
		}
	}
	if !slices.Equal(kinds, []string{"::", "step_finished:a:b"}) {
		t.Error(kinds)
	}
}

func TestGapInAWatchIsAnError(t *testing.T) {
	server := &stubServer{watch: []stream{{responses: []*perdurev1.WatchInstanceResponse{snapshot(3), entry(5)}}}}
	seen, err := revisions(t, serve(t, server, perdure.Options{Retry: fastRetry}), nil)
	if status.Code(err) != codes.DataLoss || !slices.Equal(seen, []int64{3}) {
		t.Error(seen, err)
	}
}

func TestWatchOfUnknownInstanceFails(t *testing.T) {
	server := &stubServer{watch: []stream{{err: rejection(codes.NotFound, perdure.ErrInstanceNotFound)}}}
	if _, err := revisions(t, serve(t, server, perdure.Options{}), nil); !errors.Is(err, perdure.ErrInstanceNotFound) {
		t.Error(err)
	}
}

func TestWatchFailsAfterTheReconnectTimeout(t *testing.T) {
	gone := stream{err: status.Error(codes.Unavailable, "gone")}
	streams := slices.Repeat([]stream{gone}, 1000)
	streams[0].responses = []*perdurev1.WatchInstanceResponse{snapshot(3)}
	server := &stubServer{watch: streams}
	options := &perdure.WatchOptions{ReconnectTimeout: 20 * time.Millisecond}
	seen, err := revisions(t, serve(t, server, perdure.Options{Retry: fastRetry}), options)
	if status.Code(err) != codes.Unavailable || !slices.Equal(seen, []int64{3}) || len(server.watched()) < 2 {
		t.Error(seen, err, len(server.watched()))
	}
}

func TestLeavingTheLoopEndsTheStream(t *testing.T) {
	server := &stubServer{
		watch: []stream{{responses: []*perdurev1.WatchInstanceResponse{snapshot(3)}, staysOpen: true}},
		left:  make(chan struct{}),
	}
	for range serve(t, server, perdure.Options{}).WatchInstance(t.Context(), "i1", nil) {
		break
	}
	<-server.left
}

func TestDisconnectAndReconnectAreReportedOnce(t *testing.T) {
	gone := stream{err: status.Error(codes.Unavailable, "gone")}
	server := &stubServer{watch: []stream{
		{responses: []*perdurev1.WatchInstanceResponse{snapshot(1)}, err: status.Error(codes.Unavailable, "renewed")},
		{responses: []*perdurev1.WatchInstanceResponse{entry(2)}, err: status.Error(codes.Unavailable, "first")},
		gone, gone,
		{responses: []*perdurev1.WatchInstanceResponse{entry(3), end(3, instanceEnded)}},
	}}
	var reports []string
	seen, err := revisions(t, serve(t, server, perdure.Options{Retry: fastRetry}), &perdure.WatchOptions{
		OnDisconnect: func(err error) { reports = append(reports, err.Error()) },
		OnReconnect:  func() { reports = append(reports, "reconnected") },
	})
	if err != nil || !slices.Equal(seen, []int64{1, 2, 3, -3}) {
		t.Error(seen, err)
	}
	if !slices.Equal(reports, []string{"perdure: gone", "reconnected"}) {
		t.Error(reports)
	}
}
