package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"

	"perdure.dev/go/perdure"
)

// arguments are the arguments of all operations. Each operation reads those that it needs.
type arguments struct {
	Target string `json:"target"`
	CA     string `json:"ca"`
	Cert   string `json:"cert"`
	Key    string `json:"key"`

	Workflow       string            `json:"workflow"`
	Context        *string           `json:"context"`
	RequestID      string            `json:"request_id"`
	InstanceID     string            `json:"instance_id"`
	Version        uint32            `json:"version"`
	BusinessKey    string            `json:"business_key"`
	ConflictPolicy string            `json:"conflict_policy"`
	StartDelayMS   int64             `json:"start_delay_ms"`
	Labels         map[string]string `json:"labels"`

	Event   string  `json:"event"`
	Payload *string `json:"payload"`
	StepRef string  `json:"step_ref"`
	Buffer  bool    `json:"buffer"`
	DelayMS int64   `json:"delay_ms"`

	States        []perdure.InstanceState `json:"states"`
	PageSize      int                     `json:"page_size"`
	AfterRevision *int64                  `json:"after_revision"`
	Reason        string                  `json:"reason"`

	UnconsumedEvents bool `json:"unconsumed_events"`

	Reference string `json:"reference"`

	FileName string `json:"file_name"`

	Watch     string `json:"watch"`
	TimeoutMS int64  `json:"timeout_ms"`
}

type driver struct {
	client  *perdure.Client
	watches map[string]*watch
}

func (d *driver) perform(ctx context.Context, op string, text json.RawMessage) (any, error) {
	var args arguments
	if len(text) > 0 {
		if err := json.Unmarshal(text, &args); err != nil {
			return nil, unfitError(err)
		}
	}
	switch op {
	case "connect":
		return d.connect(args)
	case "close":
		d.close()
		return object{}, nil
	}
	if d.client == nil {
		return nil, errors.New("not connected")
	}
	switch op {
	case "start_instance":
		return d.startInstance(ctx, args)
	case "resume":
		return d.resume(ctx, args)
	case "schedule_resume":
		return d.scheduleResume(ctx, args)
	case "get_instance":
		return single(instanceObject)(d.client.GetInstance(ctx, args.InstanceID))
	case "list_instances":
		return d.listInstances(ctx, args)
	case "list_history":
		return d.listHistory(ctx, args)
	case "cancel_instance":
		options := &perdure.CancelInstanceOptions{RequestID: args.RequestID, Reason: args.Reason}
		return revision(d.client.CancelInstance(ctx, args.InstanceID, options))
	case "retry_instance":
		options := &perdure.RetryInstanceOptions{RequestID: args.RequestID}
		return revision(d.client.RetryInstance(ctx, args.InstanceID, options))
	case "get_timer":
		return single(timerObject)(d.client.GetTimer(ctx, args.Reference))
	case "list_timers":
		options := &perdure.ListTimersOptions{InstanceID: args.InstanceID, PageSize: args.PageSize}
		return listed("timers", d.client.ListTimers(ctx, options), timerObject)
	case "cancel_timer":
		options := &perdure.CancelTimerOptions{RequestID: args.RequestID}
		return revision(d.client.CancelTimer(ctx, args.Reference, options))
	case "fire_timer":
		fired, err := d.client.FireTimer(ctx, args.Reference, &perdure.FireTimerOptions{RequestID: args.RequestID})
		if err != nil {
			return nil, err
		}
		return object{"revision": fired.Revision, "used": fired.Used}, nil
	case "get_workflow":
		return single(workflowObject)(d.client.GetWorkflow(ctx, args.Workflow, args.Version))
	case "list_workflows":
		options := &perdure.ListWorkflowsOptions{PageSize: args.PageSize}
		return listed("workflows", d.client.ListWorkflows(ctx, options), workflowSummaryObject)
	case "backup_database":
		return single(backupObject)(d.client.BackupDatabase(ctx, args.FileName))
	case "watch_open":
		return d.watchOpen(ctx, args)
	case "watch_next":
		return d.watchNext(args)
	case "watch_close":
		return d.watchClose(args)
	default:
		return nil, fmt.Errorf("unknown operation %q", op)
	}
}

func (d *driver) connect(args arguments) (any, error) {
	var config *tls.Config
	if args.CA != "" || args.Cert != "" {
		var err error
		config, err = perdure.LoadTLS(perdure.TLSFiles{CA: args.CA, Cert: args.Cert, Key: args.Key})
		if err != nil {
			return nil, err
		}
	}
	client, err := perdure.New(args.Target, &perdure.Options{TLS: config})
	if err != nil {
		return nil, err
	}
	d.close()
	d.client = client
	return object{}, nil
}

func (d *driver) close() {
	for name := range d.watches {
		d.endWatch(name)
	}
	if d.client != nil {
		_ = d.client.Close() // the process ends or connects again
		d.client = nil
	}
}

func (d *driver) startInstance(ctx context.Context, args arguments) (any, error) {
	started, err := d.client.StartInstance(ctx, args.Workflow, raw(args.Context), &perdure.StartOptions{
		RequestID:      args.RequestID,
		InstanceID:     args.InstanceID,
		Version:        args.Version,
		BusinessKey:    args.BusinessKey,
		ConflictPolicy: perdure.ConflictPolicy(args.ConflictPolicy),
		StartDelay:     duration(args.StartDelayMS),
		Labels:         args.Labels,
	})
	if err != nil {
		return nil, err
	}
	return object{
		"instance_id": started.InstanceID,
		"created":     started.Created,
		"version":     started.Version,
		"revision":    started.Revision,
	}, nil
}

func (d *driver) resume(ctx context.Context, args arguments) (any, error) {
	resumed, err := d.client.Resume(ctx, args.InstanceID, args.Event, raw(args.Payload), &perdure.ResumeOptions{
		RequestID: args.RequestID,
		StepRef:   args.StepRef,
		Buffer:    args.Buffer,
	})
	if err != nil {
		return nil, err
	}
	return object{
		"disposition": resumed.Disposition,
		"step_ref":    resumed.StepRef,
		"revision":    resumed.Revision,
	}, nil
}

func (d *driver) scheduleResume(ctx context.Context, args arguments) (any, error) {
	options := &perdure.ScheduleOptions{RequestID: args.RequestID}
	scheduled, err := d.client.ScheduleResume(ctx, args.InstanceID, args.StepRef, duration(args.DelayMS), options)
	if err != nil {
		return nil, err
	}
	return object{"reference": scheduled.Reference, "revision": scheduled.Revision}, nil
}

func (d *driver) listInstances(ctx context.Context, args arguments) (any, error) {
	options := &perdure.ListInstancesOptions{
		States:      args.States,
		Workflow:    args.Workflow,
		Labels:      args.Labels,
		BusinessKey: args.BusinessKey,
		PageSize:    args.PageSize,

		Version:          args.Version,
		UnconsumedEvents: args.UnconsumedEvents,
	}
	return listed("instances", d.client.ListInstances(ctx, options), summaryObject)
}

func (d *driver) listHistory(ctx context.Context, args arguments) (any, error) {
	options := &perdure.ListHistoryOptions{PageSize: args.PageSize}
	if args.AfterRevision != nil {
		options.AfterRevision = *args.AfterRevision
	}
	return listed("entries", d.client.ListHistory(ctx, args.InstanceID, options), entryObject)
}

// raw returns the JSON text to send unchanged, or nil if the operation has none.
func raw(text *string) any {
	if text == nil {
		return nil
	}
	return perdure.JSON(*text)
}

// duration keeps a number that is outside the API's range outside of it. A Duration holds 292 years.
func duration(ms int64) time.Duration {
	const longest = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(ms, -longest), longest)) * time.Millisecond
}

// unfitError rejects an argument that a Go program cannot pass, such as a negative version, in the server's form.
func unfitError(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	return &perdure.Error{
		Code:       codes.InvalidArgument,
		Reason:     perdure.ErrInvalidField,
		Message:    err.Error(),
		Violations: []perdure.FieldViolation{{Field: wrong.Field, Description: "does not fit " + wrong.Type.String()}},
	}
}
