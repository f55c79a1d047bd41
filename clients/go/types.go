package perdure

import "time"

// A field of type time.Time is the zero time if the server did not send it. A step reference that the server returns
// may carry a suffix such as "@3.7". Treat it as opaque: compare it and send it back, and do not parse it.

// InstanceState is the state of an instance, such as "WAITING". It is "UNKNOWN" if a newer server sends a state that
// this version does not know.
type InstanceState string

const (
	StatePending   InstanceState = "PENDING" // its start delay has not passed
	StateRunning   InstanceState = "RUNNING"
	StateWaiting   InstanceState = "WAITING" // no step runs or backs off, and at least one waits
	StateCompleted InstanceState = "COMPLETED"
	StateFailed    InstanceState = "FAILED" // Client.RetryInstance continues it
	StateCancelled InstanceState = "CANCELLED"
)

// HasEnded reports whether the state is COMPLETED, FAILED or CANCELLED. Only [Client.RetryInstance] continues an
// instance that has ended, and only a FAILED one.
func (s InstanceState) HasEnded() bool {
	return s == StateCompleted || s == StateFailed || s == StateCancelled
}

// StepState is the state of a step of an instance.
type StepState string

const (
	StepQueued      StepState = "QUEUED"    // no worker has taken it yet
	StepNoWorker    StepState = "NO_WORKER" // no worker has code for it
	StepRunning     StepState = "RUNNING"
	StepBackingOff  StepState = "BACKING_OFF" // the next attempt starts at the deadline
	StepWaiting     StepState = "WAITING"
	StepSleeping    StepState = "SLEEPING"
	StepInterrupted StepState = "INTERRUPTED" // it was active when the instance failed or was cancelled
	StepFinished    StepState = "FINISHED"
	StepSkipped     StepState = "SKIPPED"
	StepJoining     StepState = "JOINING" // at least one branch has arrived, and others have not
	StepFailed      StepState = "FAILED"  // its failure made the instance fail
)

// StepKind says how a step ends: after its code has run, by an event, or by time.
type StepKind string

const (
	KindTask  StepKind = "TASK"
	KindWait  StepKind = "WAIT"
	KindSleep StepKind = "SLEEP"
)

// TimerKind is the effect of a timer when it fires.
type TimerKind string

const (
	TimerStart   TimerKind = "START"
	TimerTimeout TimerKind = "TIMEOUT" // the only kind that a client can cancel
	TimerSleep   TimerKind = "SLEEP"
	TimerRetry   TimerKind = "RETRY"
)

// JoinRule is the condition under which a step with several predecessors starts.
type JoinRule string

const (
	JoinAuto JoinRule = "AUTO" // once every branch that can still reach it has arrived
	JoinAll  JoinRule = "ALL"
	JoinAny  JoinRule = "ANY"
)

// ConflictPolicy is the behaviour of [Client.StartInstance] if a live instance holds the business key.
type ConflictPolicy string

const (
	ConflictFail        ConflictPolicy = "FAIL" // reject with ErrBusinessKeyInUse; the default
	ConflictUseExisting ConflictPolicy = "USE_EXISTING"
)

// Disposition is the result of an accepted event: a step took it, or it is stored for a later step.
type Disposition string

const (
	Delivered Disposition = "DELIVERED"
	Buffered  Disposition = "BUFFERED"
)

// WatchEndReason is the reason for the end of a watch.
type WatchEndReason string

// InstanceEnded means that the instance has ended and that the watch has returned every entry.
const InstanceEnded WatchEndReason = "INSTANCE_ENDED"

// Health is a status of the standard gRPC health service.
type Health string

const (
	HealthUnknown        Health = "UNKNOWN"
	HealthServing        Health = "SERVING"
	HealthNotServing     Health = "NOT_SERVING"
	HealthServiceUnknown Health = "SERVICE_UNKNOWN"
)

// Instance is one run of a workflow version, as of Revision.
type Instance struct {
	InstanceID string
	Workflow   string
	Version    uint32
	State      InstanceState
	// Revision of the newest history entry.
	Revision int64
	// Input is the context that was passed to StartInstance.
	Input JSON
	// Outputs holds the output of each step that has finished with one. The keys are step references.
	Outputs map[string]JSON
	// ActiveSteps are the steps that have started, or that a branch has reached, and that have not ended.
	ActiveSteps []ActiveStep
	// StepResults are the steps that have ended or can never start, in order of revision.
	StepResults []StepResult
	// Error is the failure of a FAILED instance, or nil.
	Error       *InstanceFailure
	Labels      map[string]string
	BusinessKey string
	// Inbox holds the accepted events that no step has consumed, in order of acceptance.
	Inbox      []BufferedEvent
	CreateTime time.Time
	// StartTime is the time at which the start delay had passed.
	StartTime  time.Time
	UpdateTime time.Time
	EndTime    time.Time
}

// ActiveStep is a step that has not ended.
type ActiveStep struct {
	// StepRef is the step's reference. It may carry a suffix "@3.7"; treat it as opaque.
	StepRef string
	State   StepState
	// Attempt is the number of the newest attempt, starting at 1, or 0 if there was none.
	Attempt uint32
	// Events are the names of the events that the step waits for.
	Events []string
	// Deadline is the time at which the step's timer fires. It is zero if the step has no timer.
	Deadline time.Time
	// LastFailure is the failure of the newest failed attempt, or nil.
	LastFailure *StepFailure
	// AttemptStartTime is the time at which the newest attempt started.
	AttemptStartTime time.Time
	// LostAttempts is the number of attempts in a row that were lost together with the process that ran them.
	LostAttempts uint32
}

// StepFailure is the failure of a step's attempt.
type StepFailure struct {
	// Type is a short, stable name, such as the exception's class.
	Type    string
	Message string
	// Attempts is the number of attempts of the step that have failed, including this one.
	Attempts uint32
}

// StepResult is a step that has ended or can never start.
type StepResult struct {
	// StepRef is the step's reference. It may carry a suffix "@3.7"; treat it as opaque.
	StepRef string
	State   StepState
	// Event is the event with which the step ended. It is empty unless the state is FINISHED.
	Event string
	// Revision at which the result was decided.
	Revision int64
}

// InstanceFailure is the failure that made an instance FAILED.
type InstanceFailure struct {
	// StepRef is the reference of the step that failed. It may carry a suffix "@3.7"; treat it as opaque.
	StepRef string
	// Type is a short, stable name, such as the exception's class.
	Type    string
	Message string
	// Attempts is the number of attempts of the step that have failed.
	Attempts uint32
}

// BufferedEvent is an accepted event that no step has consumed.
type BufferedEvent struct {
	Event string
	// StepRef is the only step that can take the event, or empty if any step can. It may carry a suffix "@3.7"; treat
	// it as opaque.
	StepRef string
	// Revision at which the event was accepted.
	Revision int64
	// PayloadBytes is the size of the payload.
	PayloadBytes int64
	// PayloadDigest is the BLAKE2b-128 digest of the payload in hexadecimal.
	PayloadDigest string
}

// InstanceSummary is an instance in a list, without payloads and steps.
type InstanceSummary struct {
	InstanceID  string
	Workflow    string
	Version     uint32
	State       InstanceState
	Revision    int64
	BusinessKey string
	Labels      map[string]string
	CreateTime  time.Time
	UpdateTime  time.Time
	EndTime     time.Time
	// InboxSize is the number of accepted events that no step has consumed.
	InboxSize uint32
}

// Timer is a timer that has not fired yet.
type Timer struct {
	// Reference is the timer's ID.
	Reference  string
	InstanceID string
	// StepRef is the step that the timer resumes. It may carry a suffix "@3.7"; treat it as opaque.
	StepRef string
	Kind    TimerKind
	// DueTime by the store's clock. The timer never fires earlier.
	DueTime time.Time
	// Owner is the server that has loaded the timer. It is empty if the timer is far ahead or the server is gone.
	Owner      string
	CreateTime time.Time
	// ClientRequested is true for a timer of ScheduleResume, and false for a timer of the workflow's definition.
	ClientRequested bool
}

// Workflow is one version of a workflow: a graph of steps.
type Workflow struct {
	Name    string
	Version uint32
	// Digest identifies the graph. Equal graphs have equal digests.
	Digest string
	// Start is the first step.
	Start      string
	Steps      []StepDefinition
	CreateTime time.Time
}

// StepDefinition is a step of a workflow's graph. A duration that is not set is 0.
type StepDefinition struct {
	// StepRef is the step's name, unique in the workflow.
	StepRef string
	Kind    StepKind
	// On maps each event to the steps that follow, or to "end".
	On map[string][]string
	// Retry is the retry policy of a task, or nil for other kinds.
	Retry          *RetryPolicy
	AttemptTimeout time.Duration
	Join           JoinRule
	// Events are the external events that end the step.
	Events      []string
	WaitTimeout time.Duration
	Sleep       time.Duration
}

// RetryPolicy controls how the server retries failed attempts of a task. It is part of the workflow's definition. For
// retries of calls, see [CallRetryPolicy].
type RetryPolicy struct {
	// MaxAttempts is the number of attempts that can fail before the step fails.
	MaxAttempts    uint32
	InitialBackoff time.Duration
	MaxBackoff     time.Duration
	Multiplier     float64
	// Jitter is the fraction of a backoff, from 0 to 1, that is subtracted at random.
	Jitter float64
}

// WorkflowSummary is a workflow version in a list, without its graph.
type WorkflowSummary struct {
	Name       string
	Version    uint32
	Digest     string
	StepCount  uint32
	CreateTime time.Time
}

// Backup is a complete, verified backup of a server's database.
type Backup struct {
	// Path is the absolute path on the server's machine.
	Path      string
	SizeBytes int64
	// Instances is the number of instances in the backup.
	Instances int64
	// SnapshotTime is the time of the copy by the store's clock. The backup contains every write that was acknowledged
	// before it.
	SnapshotTime time.Time
}
