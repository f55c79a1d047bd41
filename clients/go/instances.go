package perdure

import (
	"context"
	"iter"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// GetInstance returns an instance as it is now, with its payloads. Fails with ErrInstanceNotFound, ErrInvalidField.
func (c *Client) GetInstance(ctx context.Context, instanceID string) (*Instance, error) {
	request := &perdurev1.GetInstanceRequest{InstanceId: instanceID}
	response, err := call(ctx, c, c.instances.GetInstance, request, "")
	if err != nil {
		return nil, err
	}
	return instanceOf(response.GetInstance()), nil
}

// ListInstancesOptions are the filters of [Client.ListInstances]. An instance is listed if it matches every filter.
type ListInstancesOptions struct {
	// States selects instances in one of these states. Empty selects any state.
	States []InstanceState
	// Workflow selects instances of one workflow.
	Workflow string
	// Version selects instances of one version of Workflow, which is then required. 0 selects any version.
	Version uint32
	// Labels selects instances that have all of these labels.
	Labels      map[string]string
	BusinessKey string
	// UnconsumedEvents selects instances that ended with accepted events that no step consumed.
	UnconsumedEvents bool
	// PageSize is the number of instances per request. 0 means 100.
	PageSize int
}

// ListInstances returns the instances that match the filters, newest first. It requests one page after another. An error
// is the last item.
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
		response, err := call(ctx, c, c.instances.ListInstances, request, "")
		return response.GetInstances(), response.GetNextPageToken(), err
	}, summaryOf)
}

// ListHistoryOptions are the options of [Client.ListHistory].
type ListHistoryOptions struct {
	// AfterRevision omits the entries up to this revision. 0 returns all entries.
	AfterRevision int64
	// PageSize is the number of entries per request. 0 means 100.
	PageSize int
}

// ListHistory returns an instance's entries in order of revision. It requests one page after another, up to the newest
// entry.
//
// An error is the last item: ErrInstanceNotFound, ErrRevisionInFuture, ErrRevisionCompacted, ErrInvalidField.
func (c *Client) ListHistory(
	ctx context.Context, instanceID string, options *ListHistoryOptions,
) iter.Seq2[*HistoryEntry, error] {
	given := orDefault(options)
	return pages(func(token string) ([]*perdurev1.HistoryEntry, string, error) {
		size, err := pageSize(given.PageSize)
		if err != nil {
			return nil, "", err
		}
		response, err := call(ctx, c, c.instances.ListHistory, &perdurev1.ListHistoryRequest{
			InstanceId:    instanceID,
			AfterRevision: given.AfterRevision,
			PageSize:      size,
			PageToken:     token,
		}, "")
		return response.GetEntries(), response.GetNextPageToken(), err
	}, entryOf)
}

// CancelInstanceOptions are the options of [Client.CancelInstance].
type CancelInstanceOptions struct {
	// RequestID identifies the call among the instance's CancelInstance calls. By default the client generates one.
	RequestID string
	// Reason is a text that is kept in the history, at most 1,024 bytes.
	Reason string
}

// CancelInstance ends an instance and returns the revision at which it ended. Fails with ErrInstanceNotFound,
// ErrInstanceEnded, ErrInvalidField, ErrRequestIDReused.
func (c *Client) CancelInstance(
	ctx context.Context, instanceID string, options *CancelInstanceOptions,
) (revision int64, err error) {
	given := orDefault(options)
	requestID := requestIDOr(given.RequestID)
	response, err := call(ctx, c, c.instances.CancelInstance, &perdurev1.CancelInstanceRequest{
		InstanceId: instanceID,
		Opts:       &perdurev1.CancelInstanceOptions{RequestId: requestID, Reason: given.Reason},
	}, requestID)
	return response.GetRevision(), err
}

// RetryInstanceOptions are the options of [Client.RetryInstance].
type RetryInstanceOptions struct {
	// RequestID identifies the call among the instance's RetryInstance calls. By default the client generates one.
	RequestID string
}

// RetryInstance continues a FAILED instance and returns its revision after that. Each timer of ScheduleResume is kept with
// its original due time and gets a new reference.
//
// Fails with ErrInstanceNotFound, ErrInstanceNotFailed, ErrBusinessKeyInUse, ErrWorkflowNotFound, ErrInvalidField,
// ErrRequestIDReused.
func (c *Client) RetryInstance(
	ctx context.Context, instanceID string, options *RetryInstanceOptions,
) (revision int64, err error) {
	requestID := requestIDOr(orDefault(options).RequestID)
	response, err := call(ctx, c, c.instances.RetryInstance, &perdurev1.RetryInstanceRequest{
		InstanceId: instanceID,
		Opts:       &perdurev1.RetryInstanceOptions{RequestId: requestID},
	}, requestID)
	return response.GetRevision(), err
}
