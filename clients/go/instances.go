package perdure

import (
	"context"
	"fmt"
	"iter"
	"math"
	"time"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// Instances: looked at, listed, cancelled and set going again. Following one is in watch.go.

// pageSizeDefault is how many items a list asks for at a time, unless told otherwise.
const pageSizeDefault = 100

// Instance is one run of a workflow version, as of Revision. Times that have not come are zero.
type Instance struct {
	InstanceID string
	Workflow   string
	Version    uint32
	State      InstanceState
	// Revision of the newest history entry.
	Revision int64
	// Input is the context that it was started with.
	Input JSON
	// Outputs holds the output of each step that has ended with one, by its ref.
	Outputs map[string]JSON
	// ActiveSteps have begun, or a branch has arrived at them, and have not ended.
	ActiveSteps []ActiveStep
	// StepResults are the steps that have ended or never will begin, in order of revision.
	StepResults []StepResult
	// Error says why it is FAILED; nil otherwise.
	Error       *InstanceFailure
	Labels      map[string]string
	BusinessKey string
	// Inbox holds the accepted events that no step has consumed, in order of acceptance.
	Inbox      []BufferedEvent
	CreateTime time.Time
	StartTime  time.Time
	UpdateTime time.Time
	EndTime    time.Time
}

// ActiveStep is a step that has not ended.
type ActiveStep struct {
	StepRef string
	Status  StepState
	// Attempt is the newest, from 1; 0 when there was none.
	Attempt uint32
	// Events that it waits for.
	Events []string
	// Deadline is when time will act on it; zero when nothing is armed.
	Deadline time.Time
	// LastFailure is why its newest failed attempt failed; nil when none has.
	LastFailure *StepFailure
	// AttemptStartTime is when the newest attempt started; zero if there was none.
	AttemptStartTime time.Time
	// LostAttempts is the number of attempts in a row that were lost together with the process that
	// ran them.
	LostAttempts uint32
}

// StepFailure is why a step's attempt failed.
type StepFailure struct {
	Type     string
	Message  string
	Attempts uint32
}

// StepResult is a step that has ended, or that never will begin.
type StepResult struct {
	StepRef string
	Status  StepState
	// Event that it ended with.
	Event string
	// Revision at which that was decided.
	Revision int64
}

// InstanceFailure is why an instance is FAILED.
type InstanceFailure struct {
	StepRef  string
	Type     string
	Message  string
	Attempts uint32
}

// BufferedEvent is an accepted event that no step has consumed.
type BufferedEvent struct {
	Event string
	// StepRef is the step that it is meant for; empty when any may take it.
	StepRef  string
	Revision int64
	// PayloadBytes and PayloadDigest (BLAKE2b-128) stand for the payload.
	PayloadBytes  int64
	PayloadDigest string
}

// InstanceSummary is an instance as lists show it.
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

// GetInstance gives an instance as it is now, with its payloads. Refused with ErrInstanceNotFound.
func (c *Client) GetInstance(ctx context.Context, instanceID string) (*Instance, error) {
	request := &perdurev1.GetInstanceRequest{InstanceId: instanceID}
	answer, err := call(ctx, c, c.instances.GetInstance, request, "")
	if err != nil {
		return nil, err
	}
	return instanceOf(answer.GetInstance()), nil
}

// ListInstancesOptions are the filters of [Client.ListInstances]; an instance is listed when it meets every one given.
type ListInstancesOptions struct {
	// States: in one of these; empty means any.
	States   []InstanceState
	Workflow string
	// Version of Workflow, which is then required; 0 means any.
	Version     uint32
	Labels      map[string]string
	BusinessKey string
	// UnconsumedEvents matches instances that ended with accepted events that no step consumed.
	UnconsumedEvents bool
	// PageSize is how many are fetched at a time; 0 means 100.
	PageSize int
}

// ListInstances gives the instances that meet the filters, newest first, fetching page after page. An error ends it.
//
// The server examines a limited number of instances for each page. With a filter that few instances match, the iterator
// requests several pages, some of them empty, before it yields.
func (c *Client) ListInstances(
	ctx context.Context, options *ListInstancesOptions,
) iter.Seq2[*InstanceSummary, error] {
	given := orDefault(options)
	return pages(func(token string) ([]*perdurev1.InstanceSummary, string, error) {
		size, err := pageSize(given.PageSize)
		if err != nil {
			return nil, "", err
		}
		request := &perdurev1.ListInstancesRequest{
			PageSize:    size,
			PageToken:   token,
			Workflow:    given.Workflow,
			Labels:      given.Labels,
			BusinessKey: given.BusinessKey,

			Version:          given.Version,
			UnconsumedEvents: given.UnconsumedEvents,
		}
		for _, state := range given.States {
			number, err := numberOf("states", state, perdurev1.InstanceState(0).Descriptor())
			if err != nil {
				return nil, "", err
			}
			request.States = append(request.States, perdurev1.InstanceState(number))
		}
		answer, err := call(ctx, c, c.instances.ListInstances, request, "")
		return answer.GetInstances(), answer.GetNextPageToken(), err
	}, summaryOf)
}

// CancelInstanceOptions is the optional side of [Client.CancelInstance].
type CancelInstanceOptions struct {
	// RequestID names this call among the instance's CancelInstance calls; empty: the client gives one.
	RequestID string
	// Reason is text for a person, kept in the history.
	Reason string
}

// CancelInstance ends an instance and gives the revision at which it ended. Refused with ErrInstanceNotFound,
// ErrInstanceEnded, ErrInvalidField, ErrRequestIDReused.
func (c *Client) CancelInstance(
	ctx context.Context, instanceID string, options *CancelInstanceOptions,
) (revision int64, err error) {
	given := orDefault(options)
	requestID := requestIDOr(given.RequestID)
	answer, err := call(ctx, c, c.instances.CancelInstance, &perdurev1.CancelInstanceRequest{
		InstanceId: instanceID,
		Opts:       &perdurev1.CancelInstanceOptions{RequestId: requestID, Reason: given.Reason},
	}, requestID)
	return answer.GetRevision(), err
}

// RetryInstanceOptions is the optional side of [Client.RetryInstance].
type RetryInstanceOptions struct {
	// RequestID names this call among the instance's RetryInstance calls; empty: the client gives one.
	RequestID string
}

// RetryInstance sets a FAILED instance going again and gives its revision after that. Refused with
// ErrInstanceNotFound, ErrInstanceNotFailed, ErrBusinessKeyInUse, ErrInvalidField, ErrRequestIDReused.
// Every timer of ScheduleResume is kept with its original due time and gets a new reference.
func (c *Client) RetryInstance(
	ctx context.Context, instanceID string, options *RetryInstanceOptions,
) (revision int64, err error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	answer, err := call(ctx, c, c.instances.RetryInstance, &perdurev1.RetryInstanceRequest{
		InstanceId: instanceID,
		Opts:       &perdurev1.RetryInstanceOptions{RequestId: requestID},
	}, requestID)
	return answer.GetRevision(), err
}

// pages iterates over what fetch gives, page after page. A page can be empty although more pages follow.
func pages[M, A any](
	fetch func(token string) (items []M, next string, err error), convert func(M) A,
) iter.Seq2[A, error] {
	return func(yield func(A, error) bool) {
		token := ""
		for {
			items, next, err := fetch(token)
			if err != nil {
				var none A
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(convert(item), nil) {
					return
				}
			}
			if next == "" {
				return
			}
			token = next
		}
	}
}

func pageSize(given int) (int32, error) {
	if given == 0 {
		return pageSizeDefault, nil
	}
	if given < math.MinInt32 || given > math.MaxInt32 {
		return 0, invalidField("page_size", fmt.Sprintf("must fit into 32 bits: %d", given))
	}
	return int32(given), nil
}

func instanceOf(message *perdurev1.Instance) *Instance {
	instance := &Instance{
		InstanceID:  message.GetInstanceId(),
		Workflow:    message.GetWorkflow(),
		Version:     message.GetVersion(),
		State:       nameOf[InstanceState](message.GetState()),
		Revision:    message.GetRevision(),
		Input:     jsonOf(message.GetInput()),
		Outputs:     make(map[string]JSON, len(message.GetOutputs())),
		ActiveSteps: each(message.GetActiveSteps(), activeStepOf),
		StepResults: each(message.GetStepResults(), stepResultOf),
		Labels:      message.GetLabels(),
		BusinessKey: message.GetBusinessKey(),
		Inbox:       each(message.GetInbox(), bufferedEventOf),
		CreateTime:  timeOf(message.GetCreateTime()),
		StartTime:   timeOf(message.GetStartTime()),
		UpdateTime:  timeOf(message.GetUpdateTime()),
		EndTime:     timeOf(message.GetEndTime()),
	}
	for ref, output := range message.GetOutputs() {
		instance.Outputs[ref] = jsonOf(output)
	}
	if failure := message.GetError(); failure != nil {
		instance.Error = &InstanceFailure{
			StepRef:  failure.GetStepRef(),
			Type:     failure.GetType(),
			Message:  failure.GetMessage(),
			Attempts: failure.GetAttempts(),
		}
	}
	return instance
}

func activeStepOf(message *perdurev1.ActiveStep) ActiveStep {
	step := ActiveStep{
		StepRef:  message.GetStepRef(),
		Status:   nameOf[StepState](message.GetStatus()),
		Attempt:  message.GetAttempt(),
		Events:   message.GetEvents(),
		Deadline: timeOf(message.GetDeadline()),

		AttemptStartTime: timeOf(message.GetAttemptStartTime()),
		LostAttempts:     message.GetLostAttempts(),
	}
	if failure := message.GetLastFailure(); failure != nil {
		step.LastFailure = &StepFailure{
			Type:     failure.GetType(),
			Message:  failure.GetMessage(),
			Attempts: failure.GetAttempts(),
		}
	}
	return step
}

func stepResultOf(message *perdurev1.StepResult) StepResult {
	return StepResult{
		StepRef:  message.GetStepRef(),
		Status:   nameOf[StepState](message.GetStatus()),
		Event:    message.GetEvent(),
		Revision: message.GetRevision(),
	}
}

func bufferedEventOf(message *perdurev1.BufferedEvent) BufferedEvent {
	return BufferedEvent{
		Event:         message.GetEvent(),
		StepRef:       message.GetStepRef(),
		Revision:      message.GetRevision(),
		PayloadBytes:  message.GetPayload().GetSizeBytes(),
		PayloadDigest: message.GetPayload().GetDigest(),
	}
}

func summaryOf(message *perdurev1.InstanceSummary) *InstanceSummary {
	return &InstanceSummary{
		InstanceID:  message.GetInstanceId(),
		Workflow:    message.GetWorkflow(),
		Version:     message.GetVersion(),
		State:       nameOf[InstanceState](message.GetState()),
		Revision:    message.GetRevision(),
		BusinessKey: message.GetBusinessKey(),
		Labels:      message.GetLabels(),
		CreateTime:  timeOf(message.GetCreateTime()),
		UpdateTime:  timeOf(message.GetUpdateTime()),
		EndTime:     timeOf(message.GetEndTime()),
		InboxSize:   message.GetInboxSize(),
	}
}
