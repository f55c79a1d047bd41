package perdure

import (
	"context"
	"iter"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// GetWorkflow returns one version of a workflow with its graph. Version 0 is the newest one. Fails with
// ErrWorkflowNotFound, ErrInvalidField.
func (c *Client) GetWorkflow(ctx context.Context, name string, version uint32) (*Workflow, error) {
	request := &perdurev1.GetWorkflowRequest{Workflow: name, Version: version}
	response, err := call(ctx, c, c.workflows.GetWorkflow, request, "")
	if err != nil {
		return nil, err
	}
	return workflowOf(response.GetWorkflow()), nil
}

// ListWorkflowsOptions are the options of [Client.ListWorkflows].
type ListWorkflowsOptions struct {
	// PageSize is the number of workflow versions per request. 0 means 100.
	PageSize int
}

// ListWorkflows returns every version of every workflow, in order of name and then of version. It requests one page after
// another. An error is the last item.
func (c *Client) ListWorkflows(
	ctx context.Context, options *ListWorkflowsOptions,
) iter.Seq2[*WorkflowSummary, error] {
	given := orDefault(options)
	return pages(func(token string) ([]*perdurev1.WorkflowSummary, string, error) {
		size, err := pageSize(given.PageSize)
		if err != nil {
			return nil, "", err
		}
		response, err := call(ctx, c, c.workflows.ListWorkflows, &perdurev1.ListWorkflowsRequest{
			PageSize:  size,
			PageToken: token,
		}, "")
		return response.GetWorkflows(), response.GetNextPageToken(), err
	}, workflowSummaryOf)
}
