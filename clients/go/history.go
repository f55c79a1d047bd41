package perdure

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// HistoryEntry is one fact in the life of an instance. An instance's entries have the revisions 1, 2, 3, ... without a
// gap and never change.
type HistoryEntry struct {
	Revision int64
	// Time by the store's clock, which may be set back between two entries.
	Time time.Time
	// RequestID of the call that caused it, if a call did.
	RequestID string
	// Kind is the fact's name in the API, such as "step_finished"; "" for one that this version does not know: pass
	// over it.
	Kind string
	// StepRef and Event are the fact's, where it is about a step or an event.
	StepRef string
	Event   string
	// Fact is the whole of it, to switch on: *perdurev1.StepFinished, *perdurev1.TimerArmed, ...; nil where Kind is "".
	Fact proto.Message
}

// ListHistoryOptions is the optional side of [Client.ListHistory].
type ListHistoryOptions struct {
	// AfterRevision leaves out the entries up to this one.
	AfterRevision int64
	// PageSize is how many are fetched at a time; 0 means 100.
	PageSize int
}

// ListHistory gives an instance's entries in order, up to now, fetching page after page. An error ends it:
// ErrInstanceNotFound, ErrRevisionInFuture, ErrRevisionCompacted, ...
func (c *Client) ListHistory(
	ctx context.Context, instanceID string, options *ListHistoryOptions,
) iter.Seq2[*HistoryEntry, error] {
	given := orDefault(options)
	return pages(func(token string) ([]*perdurev1.HistoryEntry, string, error) {
		size, err := pageSize(given.PageSize)
		if err != nil {
			return nil, "", err
		}
		answer, err := call(ctx, c, c.instances.ListHistory, &perdurev1.ListHistoryRequest{
			InstanceId:    instanceID,
			AfterRevision: given.AfterRevision,
			PageSize:      size,
			PageToken:     token,
		}, "")
		return answer.GetEntries(), answer.GetNextPageToken(), err
	}, entryOf)
}

var factOneof = (*perdurev1.HistoryEntry)(nil).ProtoReflect().Descriptor().Oneofs().ByName("fact")

func entryOf(message *perdurev1.HistoryEntry) *HistoryEntry {
	entry := &HistoryEntry{
		Revision:  message.GetRevision(),
		Time:      timeOf(message.GetTime()),
		RequestID: message.GetRequestId(),
	}
	reflected := message.ProtoReflect()
	if kind := reflected.WhichOneof(factOneof); kind != nil {
		fact := reflected.Get(kind).Message()
		entry.Kind = string(kind.Name())
		entry.Fact = fact.Interface()
		entry.StepRef = textField(fact, "step_ref")
		entry.Event = textField(fact, "event")
	}
	return entry
}

func textField(message protoreflect.Message, name protoreflect.Name) string {
	field := message.Descriptor().Fields().ByName(name)
	if field == nil || field.Kind() != protoreflect.StringKind {
		return ""
	}
	return message.Get(field).String()
}
