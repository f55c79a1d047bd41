package perdure

import (
	"context"
	"iter"
	"time"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// The workflows that the server knows, as data.

// Workflow is one version of a workflow: a graph of steps.
type Workflow struct {
	Name    string
	Version uint32
	// Digest is the same for the same graph.
	Digest string
	// Start is the step that begins first.
	Start      string
	Steps      []StepDefinition
	CreateTime time.Time
}

// StepDefinition is a node of the graph. Durations that are not set are 0.
type StepDefinition struct {
	StepRef string
	Kind    StepKind
	// On says what follows each event: refs of steps, or "end".
	On map[string][]string
	// Retry is nil for a step that is no task.
	Retry          *RetryPolicy
	AttemptTimeout time.Duration
	Join           JoinRule
	// Events from outside that end it.
	Events      []string
	WaitTimeout time.Duration
	Sleep       time.Duration
}

// RetryPolicy is how the server retries a task's failures.
type RetryPolicy struct {
	MaxAttempts uint32
	InitialBackoff     time.Duration
	MaxBackoff         time.Duration
	Multiplier  float64
	// Jitter is the share of a pause that chance may take away.
	Jitter float64
}

// WorkflowSummary is a workflow as lists show it.
type WorkflowSummary struct {
	Name       string
	Version    uint32
	Digest     string
	StepCount  uint32
	CreateTime time.Time
}

// GetWorkflow gives one version of a workflow with its graph; version 0 is the newest. Refused with
// ErrWorkflowNotFound, ErrInvalidField.
func (c *Client) GetWorkflow(ctx context.Context, name string, version uint32) (*Workflow, error) {
	request := &perdurev1.GetWorkflowRequest{Workflow: name, Version: version}
	answer, err := call(ctx, c, c.workflows.GetWorkflow, request, "")
	if err != nil {
		return nil, err
	}
	message := answer.GetWorkflow()
	return &Workflow{
		Name:       message.GetName(),
		Version:    message.GetVersion(),
		Digest:     message.GetDigest(),
		Start:      message.GetStart(),
		Steps:      each(message.GetSteps(), stepDefinitionOf),
		CreateTime: timeOf(message.GetCreateTime()),
	}, nil
}

// ListWorkflowsOptions is the optional side of [Client.ListWorkflows].
type ListWorkflowsOptions struct {
	// PageSize is how many are fetched at a time; 0 means 100.
	PageSize int
}

// ListWorkflows gives every version of every workflow, by name and then the newest first. An error ends it.
func (c *Client) ListWorkflows(
	ctx context.Context, options *ListWorkflowsOptions,
) iter.Seq2[*WorkflowSummary, error] {
	given := orDefault(options)
	return pages(func(token string) ([]*perdurev1.WorkflowSummary, string, error) {
		size, err := pageSize(given.PageSize)
		if err != nil {
			return nil, "", err
		}
		answer, err := call(ctx, c, c.workflows.ListWorkflows, &perdurev1.ListWorkflowsRequest{
			PageSize:  size,
			PageToken: token,
		}, "")
		return answer.GetWorkflows(), answer.GetNextPageToken(), err
	}, workflowSummaryOf)
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
	for _, arrow := range message.GetTransitions() {
		step.On[arrow.GetEvent()] = arrow.GetTargets()
	}
	if retry := message.GetRetry(); retry != nil {
		step.Retry = &RetryPolicy{
			MaxAttempts: retry.GetMaxAttempts(),
			InitialBackoff:     retry.GetInitialBackoff().AsDuration(),
			MaxBackoff:         retry.GetMaxBackoff().AsDuration(),
			Multiplier:  retry.GetMultiplier(),
			Jitter:      retry.GetJitter(),
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
