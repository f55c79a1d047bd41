package perdure

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The API's enums by their short names ("WAITING"), and other small conversions. A value that a newer server sends and
// this version does not know is "UNKNOWN"; one that was not sent is "".

// InstanceState is where an instance stands.
type InstanceState string

const (
	StatePending   InstanceState = "PENDING" // its start delay is not over
	StateRunning   InstanceState = "RUNNING"
	StateWaiting   InstanceState = "WAITING" // nothing runs or backs off, at least one step waits
	StateCompleted InstanceState = "COMPLETED"
	StateFailed    InstanceState = "FAILED" // Client.RetryInstance sets it going again
	StateCancelled InstanceState = "CANCELLED"
)

// HasEnded tells whether nothing happens to the instance any more, unless somebody retries a FAILED one.
func (s InstanceState) HasEnded() bool {
	return s == StateCompleted || s == StateFailed || s == StateCancelled
}

// StepState is where a step of an instance stands.
type StepState string

const (
	StepScheduled  StepState = "QUEUED"   // no executor has taken it yet
	StepNoWorker StepState = "NO_WORKER" // no executor has code for it
	StepRunning    StepState = "RUNNING"
	StepBackingOff StepState = "BACKING_OFF" // the next attempt begins at the deadline
	StepWaiting    StepState = "WAITING"
	StepSleeping   StepState = "SLEEPING"
	StepInterrupted     StepState = "INTERRUPTED" // it was active when the instance failed
	StepFinished   StepState = "FINISHED"
	StepSkipped    StepState = "SKIPPED"
	StepJoining    StepState = "JOINING" // a branch has arrived, others have not
	StepFailed     StepState = "FAILED"  // its failure is what failed the instance
)

// StepKind is what makes a step end.
type StepKind string

const (
	KindTask  StepKind = "TASK"
	KindWait  StepKind = "WAIT"
	KindSleep StepKind = "SLEEP"
)

// TimerKind is what a timer does when it is due.
type TimerKind string

const (
	TimerStart   TimerKind = "START"
	TimerTimeout TimerKind = "TIMEOUT" // the only kind that a client can cancel
	TimerSleep   TimerKind = "SLEEP"
	TimerRetry   TimerKind = "RETRY"
)

// JoinRule is when a step with several predecessors begins.
type JoinRule string

const (
	JoinAuto JoinRule = "AUTO" // once every branch that can still reach it has arrived
	JoinAll  JoinRule = "ALL"
	JoinAny  JoinRule = "ANY"
)

// ConflictPolicy is what StartInstance does when a live instance holds the business key.
type ConflictPolicy string

const (
	ConflictFail        ConflictPolicy = "FAIL" // refuse with ErrBusinessKeyInUse; the default
	ConflictUseExisting ConflictPolicy = "USE_EXISTING"
)

// Disposition is what became of an accepted event.
type Disposition string

const (
	Delivered Disposition = "DELIVERED"
	Buffered  Disposition = "BUFFERED"
)

// WatchEndReason is why a watch ended.
type WatchEndReason string

// InstanceEnded says that the instance has ended and every entry was given.
const InstanceEnded WatchEndReason = "INSTANCE_ENDED"

func nameOf[N ~string](value protoreflect.Enum) N {
	number, descriptor := value.Number(), value.Descriptor()
	if number == 0 {
		return ""
	}
	if known := descriptor.Values().ByNumber(number); known != nil {
		return N(strings.TrimPrefix(string(known.Name()), prefixOf(descriptor)))
	}
	return "UNKNOWN"
}

func numberOf[N ~string](
	field string, name N, descriptor protoreflect.EnumDescriptor,
) (protoreflect.EnumNumber, error) {
	if name == "" {
		return 0, nil
	}
	full := protoreflect.Name(prefixOf(descriptor) + string(name))
	if known := descriptor.Values().ByName(full); known != nil && known.Number() != 0 {
		return known.Number(), nil
	}
	return 0, invalidField(field, "there is no "+strconv.Quote(string(name)))
}

// prefixOf relies on buf's rule: each value begins with the enum's name, and number 0 is X_UNSPECIFIED.
func prefixOf(descriptor protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(descriptor.Values().ByNumber(0).Name()), "UNSPECIFIED")
}

// timeOf gives the zero time for one that was not sent.
func timeOf(stamp *timestamppb.Timestamp) time.Time {
	if stamp == nil {
		return time.Time{}
	}
	return stamp.AsTime()
}

// milliseconds rounds up, so that nothing is ever asked to happen earlier than the caller said.
func milliseconds(duration time.Duration) int64 {
	whole := duration.Milliseconds()
	if duration > time.Duration(whole)*time.Millisecond {
		whole++
	}
	return whole
}

// each converts a list.
func each[A, B any](items []A, convert func(A) B) []B {
	converted := make([]B, len(items))
	for index, item := range items {
		converted[index] = convert(item)
	}
	return converted
}
