package perdure

import (
	"context"
	"time"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// The three methods of the contract. Once one returns without an error, its effect is on disk.

// StartOptions are the options of [Client.StartInstance].
type StartOptions struct {
	// RequestID identifies the call among all StartInstance calls, so that a retry takes effect once. By default the
	// client generates one.
	RequestID string
	// InstanceID is the ID of the new instance. By default the server generates one.
	InstanceID string
	// Version of the workflow. 0 means the newest one.
	Version uint32
	// BusinessKey is unique per workflow among the instances that have not ended.
	BusinessKey string
	// ConflictPolicy applies if a live instance holds BusinessKey. The default is ConflictFail.
	ConflictPolicy ConflictPolicy
	// StartDelay is the time for which the instance stays PENDING, rounded up to milliseconds. 0 starts it immediately.
	StartDelay time.Duration
	// Labels are key-value pairs for ListInstances.
	Labels map[string]string
}

// StartedInstance is the result of [Client.StartInstance].
type StartedInstance struct {
	InstanceID string
	// Created is true if this request ID created the instance, and false if ConflictUseExisting found one.
	Created bool
	// Version of the workflow that the instance runs.
	Version uint32
	// Revision of the instance after this call.
	Revision int64
}

// StartInstance stores a new instance of a workflow and starts running it. input becomes the instance's context: a value
// that encodes to a JSON object, a [JSON] that is sent unchanged, or nil for an empty object. options can be nil.
//
// Fails with ErrWorkflowNotFound, ErrInstanceAlreadyExists, ErrBusinessKeyInUse, ErrPayloadTooLarge, ErrInvalidField,
// ErrRequestIDReused.
func (c *Client) StartInstance(
	ctx context.Context, workflow string, input any, options *StartOptions,
) (*StartedInstance, error) {
	given := orDefault(options)
	payload, err := contextOf(input)
	if err != nil {
		return nil, err
	}
	policy, err := numberOf("opts.conflict_policy", given.ConflictPolicy, perdurev1.ConflictPolicy(0).Descriptor())
	if err != nil {
		return nil, err
	}
	requestID := requestIDOr(given.RequestID)
	response, err := call(ctx, c, c.runner.StartInstance, &perdurev1.StartInstanceRequest{
		Workflow: workflow,
		Context:  payload,
		Opts: &perdurev1.StartOptions{
			RequestId:      requestID,
			InstanceId:     given.InstanceID,
			Version:        given.Version,
			BusinessKey:    given.BusinessKey,
			ConflictPolicy: perdurev1.ConflictPolicy(policy),
			StartDelayMs:   milliseconds(given.StartDelay),
			Labels:         given.Labels,
		},
	}, requestID)
	if err != nil {
		return nil, err
	}
	return &StartedInstance{
		InstanceID: response.GetInstanceId(),
		Created:    response.GetCreated(),
		Version:    response.GetVersion(),
		Revision:   response.GetRevision(),
	}, nil
}

// ResumeOptions are the options of [Client.Resume].
type ResumeOptions struct {
	// RequestID identifies the call among the instance's Resume calls. By default the client generates one.
	RequestID string
	// StepRef selects the step if several accept the event.
	StepRef string
	// Buffer stores the event in the instance's inbox if no step waits for it yet. Without it, the call fails with
	// ErrEventNotAwaited.
	Buffer bool
}

// Resumed is the result of [Client.Resume].
type Resumed struct {
	Disposition Disposition
	// StepRef is the step that took the event or that it is stored for. It is empty if any step can take it. It may
	// carry a suffix "@3.7"; treat it as opaque.
	StepRef string
	// Revision at which the event was accepted.
	Revision int64
}

// Resume delivers an event to the step that waits for it. payload becomes the step's output: any value, a [JSON] that is
// sent unchanged, or nil for an empty object. Pass JSON("null") for null. options can be nil.
//
// Fails with ErrEventNotAwaited, ErrEventNeverAccepted, ErrAmbiguousEvent, ErrInstanceNotFound, ErrInstanceEnded,
// ErrStepNotFound, ErrStepFinished, ErrStepUnreachable, ErrInboxFull, ErrPayloadTooLarge, ErrInvalidField,
// ErrRequestIDReused.
func (c *Client) Resume(
	ctx context.Context, instanceID, event string, payload any, options *ResumeOptions,
) (*Resumed, error) {
	given := orDefault(options)
	body, err := payloadOf("opts.payload", payload)
	if err != nil {
		return nil, err
	}
	requestID := requestIDOr(given.RequestID)
	response, err := call(ctx, c, c.runner.Resume, &perdurev1.ResumeRequest{
		InstanceId: instanceID,
		Event:      event,
		Opts: &perdurev1.ResumeOptions{
			RequestId: requestID,
			Payload:   body,
			StepRef:   given.StepRef,
			Buffer:    given.Buffer,
		},
	}, requestID)
	if err != nil {
		return nil, err
	}
	return &Resumed{
		Disposition: nameOf[Disposition](response.GetDisposition()),
		StepRef:     response.GetStepRef(),
		Revision:    response.GetRevision(),
	}, nil
}

// ScheduleOptions are the options of [Client.ScheduleResume].
type ScheduleOptions struct {
	// RequestID identifies the call among the instance's ScheduleResume calls. By default the client generates one.
	RequestID string
}

// ScheduledResume is the result of [Client.ScheduleResume].
type ScheduledResume struct {
	// Reference is the timer's ID. Pass it to GetTimer, CancelTimer and FireTimer.
	Reference string
	// DueTime by the store's clock. The timer never fires earlier.
	DueTime time.Time
	// Revision of the instance after this call.
	Revision int64
}

// ScheduleResume resumes a step with the event "timeout" after a delay, rounded up to milliseconds. The timer is durable
// and never fires early. options can be nil.
//
// Fails with ErrStepHasNoTimeout, ErrStepFinished, ErrStepUnreachable, ErrStepNotFound, ErrInstanceNotFound,
// ErrInstanceEnded, ErrTooManyTimers, ErrInvalidField, ErrRequestIDReused.
func (c *Client) ScheduleResume(
	ctx context.Context, instanceID, stepRef string, delay time.Duration, options *ScheduleOptions,
) (*ScheduledResume, error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	response, err := call(ctx, c, c.runner.ScheduleResume, &perdurev1.ScheduleResumeRequest{
		InstanceId: instanceID,
		StepRef:    stepRef,
		DelayMs:    milliseconds(delay),
		Opts:       &perdurev1.ScheduleOptions{RequestId: requestID},
	}, requestID)
	if err != nil {
		return nil, err
	}
	return &ScheduledResume{
		Reference: response.GetReference(),
		DueTime:   timeOf(response.GetDueTime()),
		Revision:  response.GetRevision(),
	}, nil
}
