package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"google.golang.org/grpc/codes"

	"perdure.dev/go/perdure"
)

// arguments are those of every operation; each takes what it needs.
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
			return nil, misfit(err)
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
		return d.getInstance(ctx, args)
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
		timer, err := d.client.GetTimer(ctx, args.Reference)
		if err != nil {
			return nil, err
		}
		return timerObject(timer), nil
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
		return d.getWorkflow(ctx, args)
	case "list_workflows":
		options := &perdure.ListWorkflowsOptions{PageSize: args.PageSize}
		return listed("workflows", d.client.ListWorkflows(ctx, options), func(w *perdure.WorkflowSummary) object {
			return object{"name": w.Name, "version": w.Version}
		})
	case "backup_database":
		backup, err := d.client.BackupDatabase(ctx, args.FileName)
		if err != nil {
			return nil, err
		}
		return object{
			"path": backup.Path, "size": backup.SizeBytes > 0, "instances": backup.Instances > 0,
			"snapshot": !backup.SnapshotTime.IsZero(),
		}, nil
	case "watch_open":
		return d.watchOpen(ctx, args)
	case "watch_next":
		return d.watchNext(args)
	case "watch_close":
		return d.watchClose(args)
	default:
		return nil, fmt.Errorf("no operation %q", op)
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
		_ = d.client.Close() // the process ends, or another connection takes over
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

func (d *driver) getInstance(ctx context.Context, args arguments) (any, error) {
	instance, err := d.client.GetInstance(ctx, args.InstanceID)
	if err != nil {
		return nil, err
	}
	active := objects(instance.ActiveSteps, func(step perdure.ActiveStep) object {
		return object{
			"step_ref": step.StepRef, "status": step.Status, "attempt": step.Attempt, "events": orEmpty(step.Events),
		}
	})
	results := objects(instance.StepResults, func(result perdure.StepResult) object {
		return object{"step_ref": result.StepRef, "status": result.Status, "event": result.Event}
	})
	told := object{
		"instance_id":  instance.InstanceID,
		"workflow":     instance.Workflow,
		"version":      instance.Version,
		"state":        instance.State,
		"revision":     instance.Revision,
		"input":      string(instance.Input),
		"outputs":      texts(instance.Outputs),
		"active_steps": active,
		"step_results": results,
		"error":        nil,
		"labels":       instance.Labels,
		"business_key": instance.BusinessKey,
	}
	if instance.Labels == nil {
		told["labels"] = object{}
	}
	if failure := instance.Error; failure != nil {
		told["error"] = object{
			"step_ref": failure.StepRef,
			"type":     failure.Type,
			"message":  failure.Message,
			"attempts": failure.Attempts,
		}
	}
	return told, nil
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
	return listed("instances", d.client.ListInstances(ctx, options), func(i *perdure.InstanceSummary) object {
		told := object{"instance_id": i.InstanceID, "state": i.State, "revision": i.Revision}
		told["inbox_size"] = i.InboxSize
		return told
	})
}

func (d *driver) listHistory(ctx context.Context, args arguments) (any, error) {
	options := &perdure.ListHistoryOptions{PageSize: args.PageSize}
	if args.AfterRevision != nil {
		options.AfterRevision = *args.AfterRevision
	}
	return listed("entries", d.client.ListHistory(ctx, args.InstanceID, options), func(e *perdure.HistoryEntry) object {
		told := object{"revision": e.Revision, "kind": e.Kind}
		if e.StepRef != "" {
			told["step_ref"] = e.StepRef
		}
		if e.Event != "" {
			told["event"] = e.Event
		}
		return told
	})
}

func (d *driver) getWorkflow(ctx context.Context, args arguments) (any, error) {
	workflow, err := d.client.GetWorkflow(ctx, args.Workflow, args.Version)
	if err != nil {
		return nil, err
	}
	refs := make([]string, len(workflow.Steps))
	for index, step := range workflow.Steps {
		refs[index] = step.StepRef
	}
	return object{
		"name":    workflow.Name,
		"version": workflow.Version,
		"digest":  workflow.Digest,
		"start":   workflow.Start,
		"steps":   refs,
	}, nil
}

func timerObject(timer *perdure.Timer) object {
	return object{"reference": timer.Reference, "step_ref": timer.StepRef, "kind": timer.Kind}
}

func revision(revision int64, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return object{"revision": revision}, nil
}

func listed[T any](name string, items iter.Seq2[T, error], tell func(T) object) (any, error) {
	told := []object{}
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		told = append(told, tell(item))
	}
	return object{name: told}, nil
}

func objects[T any](items []T, tell func(T) object) []object {
	told := make([]object, len(items))
	for index, item := range items {
		told[index] = tell(item)
	}
	return told
}

func texts(outputs map[string]perdure.JSON) map[string]string {
	told := make(map[string]string, len(outputs))
	for ref, output := range outputs {
		told[ref] = string(output) // and not the value: json.Marshal would compact it
	}
	return told
}

func orEmpty(refs []string) []string {
	if refs == nil {
		return []string{}
	}
	return refs
}

// raw is the JSON text to be sent as it stands; nil when the operation brings none.
func raw(text *string) any {
	if text == nil {
		return nil
	}
	return perdure.JSON(*text)
}

// duration stays out of the API's range where the number is: a Duration holds 292 years of milliseconds.
func duration(ms int64) time.Duration {
	const longest = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(ms, -longest), longest)) * time.Millisecond
}

// misfit is for an argument that no Go program could pass, such as a negative version: refused where a server would.
func misfit(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	return &perdure.Error{
		Status:     codes.InvalidArgument,
		Reason:     perdure.ErrInvalidField,
		Message:    err.Error(),
		Violations: []perdure.FieldViolation{{Field: wrong.Field, Description: "does not fit " + wrong.Type.String()}},
	}
}
