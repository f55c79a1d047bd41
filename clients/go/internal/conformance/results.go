package main

import (
	"iter"

	"perdure.dev/go/perdure"
)

func instanceObject(instance *perdure.Instance) object {
	result := object{
		"instance_id":  instance.InstanceID,
		"workflow":     instance.Workflow,
		"version":      instance.Version,
		"state":        instance.State,
		"revision":     instance.Revision,
		"input":        string(instance.Input),
		"outputs":      texts(instance.Outputs),
		"active_steps": objects(instance.ActiveSteps, activeStepObject),
		"step_results": objects(instance.StepResults, stepResultObject),
		"error":        nil,
		"labels":       instance.Labels,
		"business_key": instance.BusinessKey,
	}
	if instance.Labels == nil {
		result["labels"] = object{}
	}
	if failure := instance.Error; failure != nil {
		result["error"] = object{
			"step_ref": failure.StepRef,
			"type":     failure.Type,
			"message":  failure.Message,
			"attempts": failure.Attempts,
		}
	}
	return result
}

func activeStepObject(step perdure.ActiveStep) object {
	events := step.Events
	if events == nil {
		events = []string{}
	}
	return object{"step_ref": step.StepRef, "state": step.State, "attempt": step.Attempt, "events": events}
}

func stepResultObject(result perdure.StepResult) object {
	return object{"step_ref": result.StepRef, "state": result.State, "event": result.Event}
}

func summaryObject(instance *perdure.InstanceSummary) object {
	return object{
		"instance_id": instance.InstanceID,
		"state":       instance.State,
		"revision":    instance.Revision,
		"inbox_size":  instance.InboxSize,
	}
}

func entryObject(entry *perdure.HistoryEntry) object {
	result := object{"revision": entry.Revision, "kind": entry.Kind}
	if entry.StepRef != "" {
		result["step_ref"] = entry.StepRef
	}
	if entry.Event != "" {
		result["event"] = entry.Event
	}
	return result
}

func timerObject(timer *perdure.Timer) object {
	return object{"reference": timer.Reference, "step_ref": timer.StepRef, "kind": timer.Kind}
}

func workflowObject(workflow *perdure.Workflow) object {
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
	}
}

func workflowSummaryObject(workflow *perdure.WorkflowSummary) object {
	return object{"name": workflow.Name, "version": workflow.Version}
}

// backupObject reports whether the client returns a size, a number of instances and a time. Their values vary.
func backupObject(backup *perdure.Backup) object {
	return object{
		"path": backup.Path, "size": backup.SizeBytes > 0, "instances": backup.Instances > 0,
		"snapshot": !backup.SnapshotTime.IsZero(),
	}
}

// single converts the result of a call that returns one item.
func single[T any](convert func(T) object) func(T, error) (any, error) {
	return func(item T, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		return convert(item), nil
	}
}

func revision(revision int64, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return object{"revision": revision}, nil
}

// listed converts the items of a list, under a name.
func listed[T any](name string, items iter.Seq2[T, error], convert func(T) object) (any, error) {
	converted := []object{}
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		converted = append(converted, convert(item))
	}
	return object{name: converted}, nil
}

func objects[T any](items []T, convert func(T) object) []object {
	converted := make([]object, len(items))
	for index, item := range items {
		converted[index] = convert(item)
	}
	return converted
}

// texts returns strings, because json.Marshal compacts a perdure.JSON.
func texts(outputs map[string]perdure.JSON) map[string]string {
	converted := make(map[string]string, len(outputs))
	for ref, output := range outputs {
		converted[ref] = string(output)
	}
	return converted
}
