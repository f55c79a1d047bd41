package perdure

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// unknownName is the name of an enum value that a newer server sends and this version does not know.
const unknownName = "UNKNOWN"

// nameOf returns an enum value's name without the enum's prefix, and "" for a value that was not sent.
func nameOf[N ~string](value protoreflect.Enum) N {
	number, descriptor := value.Number(), value.Descriptor()
	if number == 0 {
		return ""
	}
	if known := descriptor.Values().ByNumber(number); known != nil {
		return N(strings.TrimPrefix(string(known.Name()), prefixOf(descriptor)))
	}
	return unknownName
}

// numberOf returns the number of an enum value, and 0 for an empty name. It fails with ErrInvalidField.
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
	return 0, invalidField(field, "unknown value "+strconv.Quote(string(name)))
}

// prefixOf relies on a rule of buf: each value starts with the enum's name, and number 0 is X_UNSPECIFIED.
func prefixOf(descriptor protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(descriptor.Values().ByNumber(0).Name()), "UNSPECIFIED")
}

// healthOf is separate from nameOf because the values of this enum have no prefix.
func healthOf(status grpc_health_v1.HealthCheckResponse_ServingStatus) Health {
	if name, known := grpc_health_v1.HealthCheckResponse_ServingStatus_name[int32(status)]; known {
		return Health(name)
	}
	return HealthUnknown
}

// timeOf returns the zero time for a timestamp that was not sent.
func timeOf(stamp *timestamppb.Timestamp) time.Time {
	if stamp == nil {
		return time.Time{}
	}
	return stamp.AsTime()
}

// milliseconds rounds up, so that nothing happens earlier than requested.
func milliseconds(duration time.Duration) int64 {
	whole := duration.Milliseconds()
	if duration > time.Duration(whole)*time.Millisecond {
		whole++
	}
	return whole
}

// each converts the items of a slice.
func each[A, B any](items []A, convert func(A) B) []B {
	converted := make([]B, len(items))
	for index, item := range items {
		converted[index] = convert(item)
	}
	return converted
}

func instanceOf(message *perdurev1.Instance) *Instance {
	instance := &Instance{
		InstanceID:  message.GetInstanceId(),
		Workflow:    message.GetWorkflow(),
		Version:     message.GetVersion(),
		State:       nameOf[InstanceState](message.GetState()),
		Revision:    message.GetRevision(),
		Input:       jsonOf(message.GetInput()),
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
		State:    nameOf[StepState](message.GetState()),
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
		State:    nameOf[StepState](message.GetState()),
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

func timerOf(message *perdurev1.Timer) *Timer {
	return &Timer{
		Reference:       message.GetReference(),
		InstanceID:      message.GetInstanceId(),
		StepRef:         message.GetStepRef(),
		Kind:            nameOf[TimerKind](message.GetKind()),
		DueTime:         timeOf(message.GetDueTime()),
		Owner:           message.GetOwner(),
		CreateTime:      timeOf(message.GetCreateTime()),
		ClientRequested: message.GetClientRequested(),
	}
}

func workflowOf(message *perdurev1.Workflow) *Workflow {
	return &Workflow{
		Name:       message.GetName(),
		Version:    message.GetVersion(),
		Digest:     message.GetDigest(),
		Start:      message.GetStart(),
		Steps:      each(message.GetSteps(), stepDefinitionOf),
		CreateTime: timeOf(message.GetCreateTime()),
	}
}

func stepDefinitionOf(message *perdurev1.StepDefinition) StepDefinition {
	step := StepDefinition{
		StepRef:        message.GetStepRef(),
		Kind:           nameOf[StepKind](message.GetKind()),
		On:             make(map[string][]string, len(message.GetTransitions())),
		AttemptTimeout: message.GetAttemptTimeout().AsDuration(),
		Join:           nameOf[JoinRule](message.GetJoin()),
		Events:         message.GetEvents(),
		WaitTimeout:    message.GetWaitTimeout().AsDuration(),
		Sleep:          message.GetSleep().AsDuration(),
	}
	for _, transition := range message.GetTransitions() {
		step.On[transition.GetEvent()] = transition.GetTargets()
	}
	if retry := message.GetRetry(); retry != nil {
		step.Retry = &RetryPolicy{
			MaxAttempts:    retry.GetMaxAttempts(),
			InitialBackoff: retry.GetInitialBackoff().AsDuration(),
			MaxBackoff:     retry.GetMaxBackoff().AsDuration(),
			Multiplier:     retry.GetMultiplier(),
			Jitter:         retry.GetJitter(),
		}
	}
	return step
}

func workflowSummaryOf(message *perdurev1.WorkflowSummary) *WorkflowSummary {
	return &WorkflowSummary{
		Name:       message.GetName(),
		Version:    message.GetVersion(),
		Digest:     message.GetDigest(),
		StepCount:  message.GetStepCount(),
		CreateTime: timeOf(message.GetCreateTime()),
	}
}
