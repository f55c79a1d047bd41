package main

import (
	"context"
	"fmt"
	"time"

	"perdure.dev/go/perdure"
)

// watch adds a time limit to the next event: a goroutine reads the iterator, one event ahead.
type watch struct {
	events chan item
	cancel context.CancelFunc
}

type item struct {
	event perdure.WatchEvent
	err   error
}

func (d *driver) watchOpen(ctx context.Context, args arguments) (any, error) {
	if d.watches[args.Watch] != nil {
		return nil, fmt.Errorf("watch %q is already open", args.Watch)
	}
	ctx, cancel := context.WithCancel(ctx)
	opened := &watch{events: make(chan item), cancel: cancel}
	d.watches[args.Watch] = opened
	options := &perdure.WatchOptions{AfterRevision: args.AfterRevision}
	events := d.client.WatchInstance(ctx, args.InstanceID, options)
	go func() {
		defer close(opened.events)
		for event, err := range events {
			select {
			case opened.events <- item{event, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return object{}, nil
}

func (d *driver) watchNext(args arguments) (any, error) {
	opened := d.watches[args.Watch]
	if opened == nil {
		return nil, fmt.Errorf("unknown watch %q", args.Watch)
	}
	limit := time.NewTimer(duration(args.TimeoutMS))
	defer limit.Stop()
	select {
	case next, more := <-opened.events:
		if !more {
			return nil, fmt.Errorf("watch %q has ended", args.Watch)
		}
		if next.err != nil {
			return nil, next.err
		}
		return eventObject(next.event), nil
	case <-limit.C:
		return object{"event": "timeout"}, nil
	}
}

func (d *driver) watchClose(args arguments) (any, error) {
	if d.watches[args.Watch] == nil {
		return nil, fmt.Errorf("unknown watch %q", args.Watch)
	}
	d.endWatch(args.Watch)
	return object{}, nil
}

func (d *driver) endWatch(name string) {
	opened := d.watches[name]
	delete(d.watches, name)
	opened.cancel()
	for range opened.events { // wait for the goroutine to end
	}
}

func eventObject(event perdure.WatchEvent) object {
	switch event := event.(type) {
	case *perdure.Snapshot:
		return object{"event": "snapshot", "revision": event.Instance.Revision}
	case *perdure.HistoryEntry:
		return object{"event": "entry", "revision": event.Revision, "kind": event.Kind}
	case *perdure.WatchEnd:
		return object{"event": "end", "revision": event.Revision}
	default:
		return object{"event": fmt.Sprintf("%T", event)}
	}
}
