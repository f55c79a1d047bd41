package perdure

import (
	"context"
	"time"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// The three verbs. When one returns without an error, its effect is stored durably.

// StartOptions is the optional side of [Client.StartInstance].
type StartOptions struct {
	// RequestID names this call among all starts, so that it can be made again safely; empty: the client gives one.
	RequestID string
	// InstanceID is the id that the instance shall have; empty: the server chooses one.
	InstanceID string
	// Version of the workflow; 0 means the newest one.
	Version uint32
	// BusinessKey is unique per workflow among the instances that have not ended.
	BusinessKey string
	// ConflictPolicy says what happens when a live instance holds BusinessKey.
	ConflictPolicy ConflictPolicy
	// StartDelay is how long the instance stays PENDING; rounded up to milliseconds.
	StartDelay time.Duration
	// Labels are to find instances by.
	Labels map[string]string
}

// StartedInstance is the answer to [Client.StartInstance].
type StartedInstance struct {
	InstanceID string
	// Created is true when this request created the instance (a repeat answers the same), false when
	// ConflictUseExisting found one.
	Created bool
	// Version of the workflow that the instance runs.
	Version uint32
	// Revision of the instance after this call.
	Revision int64
}

// StartInstance stores a new instance of a workflow, which begins to run at once or after a delay. input becomes its
// initial context: anything that encodes to a JSON object, a [JSON] as it stands, or nil for an empty one.
//
// Refused with ErrWorkflowNotFound, ErrInstanceAlreadyExists, ErrBusinessKeyInUse, ErrPayloadTooLarge, ErrInvalidField,
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
	answer, err := call(ctx, c, c.runner.StartInstance, &perdurev1.StartInstanceRequest{
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
		InstanceID: answer.GetInstanceId(),
		Created:    answer.GetCreated(),
		Version:    answer.GetVersion(),
		Revision:   answer.GetRevision(),
	}, nil
}

// ResumeOptions is the optional side of [Client.Resume].
type ResumeOptions struct {
	// RequestID names this call among the instance's Resume calls; empty: the client gives one.
	RequestID string
	// StepRef picks the step when several accept the event.
	StepRef string
	// Buffer keeps the event in the instance's inbox when no step waits for it yet, instead of refusing it.
	Buffer bool
}

// Resumed is the answer to [Client.Resume].
type Resumed struct {
	Disposition Disposition
	// StepRef is the step that took the event, or that it is buffered for; empty when whichever comes first may have it.
	StepRef string
	// Revision at which the event was accepted.
	Revision int64
}

// Resume brings an event to the step that waits for it. payload becomes the step's output: any value, a [JSON] as it
// stands, or nil for an empty object. JSON("null") is null.
//
// Refused with ErrEventNotAwaited, ErrEventNeverAccepted, ErrAmbiguousEvent, ErrInstanceNotFound, ErrInstanceEnded,
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
	answer, err := call(ctx, c, c.runner.Resume, &perdurev1.ResumeRequest{
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
		Disposition: nameOf[Disposition](answer.GetDisposition()),
		StepRef:     answer.GetStepRef(),
		Revision:    answer.GetRevision(),
	}, nil
}

// ScheduleOptions is the optional side of [Client.ScheduleResume].
type ScheduleOptions struct {
	// RequestID names this call among the instance's ScheduleResume calls; empty: the client gives one.
	RequestID string
}

// ScheduledResume is the answer to [Client.ScheduleResume].
type ScheduledResume struct {
	// Reference is the timer's id, which GetTimer, CancelTimer and FireTimer take.
	Reference string
	// DueTime by the store's clock; the timer never fires before.
	DueTime time.Time
	// Revision of the instance after this call.
	Revision int64
}

// ScheduleResume arms a durable timer that ends a step with the event "timeout", never before delay (rounded up to
// milliseconds) has passed.
//
// Refused with ErrStepHasNoTimeout, ErrStepFinished, ErrStepUnreachable, ErrStepNotFound, ErrInstanceNotFound,
// ErrInstanceEnded, ErrInvalidField, ErrRequestIDReused.
func (c *Client) ScheduleResume(
	ctx context.Context, instanceID, stepRef string, delay time.Duration, options *ScheduleOptions,
) (*ScheduledResume, error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	answer, err := call(ctx, c, c.runner.ScheduleResume, &perdurev1.ScheduleResumeRequest{
		InstanceId: instanceID,
		StepRef:    stepRef,
		DelayMs:    milliseconds(delay),
		Opts:       &perdurev1.ScheduleOptions{RequestId: requestID},
	}, requestID)
	if err != nil {
		return nil, err
	}
	return &ScheduledResume{
		Reference: answer.GetReference(),
		DueTime:   timeOf(answer.GetDueTime()),
		Revision:  answer.GetRevision(),
	}, nil
}
