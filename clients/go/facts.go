package perdure

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// HistoryEntry is one fact about an instance. An instance's entries have the revisions 1, 2, 3, ... without a gap and never
// change.
type HistoryEntry struct {
	Revision int64
	// Time by the store's clock. The clock can be set back between two entries.
	Time time.Time
	// RequestID of the call that caused the entry, or empty.
	RequestID string
	// Kind is the fact's name, such as "step_finished". It is empty for a fact that this version does not know. Ignore
	// such an entry.
	Kind string
	// StepRef is the step of the fact, or empty. It may carry a suffix "@3.7"; treat it as opaque.
	StepRef string
	// Event is the event of the fact, or empty.
	Event string
	// Fact is the complete fact, for a type switch: *perdurev1.StepFinished, *perdurev1.TimerArmed, and so on. It is nil
	// if Kind is empty.
	Fact proto.Message
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
