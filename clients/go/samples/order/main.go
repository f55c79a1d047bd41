// Command order runs an order from start to end: it reserves the goods, approves the order, fires the timer of the
// cooldown and waits for the parcel.
//
// It requires a server that runs examples/order.py. Pass its address as the first argument. The default is
// 127.0.0.1:7420.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

func main() {
	target := perdure.DefaultTarget
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, target); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, target string) error {
	client, err := perdure.New(target, nil)
	if err != nil {
		return err
	}
	defer client.Close()

	order := map[string]any{"items": []string{"lamp"}, "total_cents": 4900}
	started, err := client.StartInstance(ctx, "order", order, nil)
	if err != nil {
		return err
	}
	fmt.Println("started", started.InstanceID)

	// The steps may not wait for these events yet. Buffer keeps the events until they do.
	early := &perdure.ResumeOptions{Buffer: true}
	shelf := map[string]any{"shelf": "B4"}
	if _, err := client.Resume(ctx, started.InstanceID, "reserved", shelf, early); err != nil {
		return err
	}
	if _, err := client.Resume(ctx, started.InstanceID, "approved", nil, early); err != nil {
		return err
	}

	fromStart := &perdure.WatchOptions{AfterRevision: new(int64(0))}
	for event, err := range client.WatchInstance(ctx, started.InstanceID, fromStart) {
		if err != nil {
			return err
		}
		entry, is := event.(*perdure.HistoryEntry)
		if !is {
			continue
		}
		fmt.Println(entry.Revision, entry.Kind, entry.StepRef, entry.Event)
		if timer, is := entry.Fact.(*perdurev1.TimerArmed); is && timer.GetStepRef() == "cooldown" {
			if _, err := client.FireTimer(ctx, timer.GetReference(), nil); err != nil {
				return err
			}
		}
	}

	instance, err := client.GetInstance(ctx, started.InstanceID)
	if err != nil {
		return err
	}
	if instance.State != perdure.StateCompleted {
		return fmt.Errorf("the order is %s, not COMPLETED", instance.State)
	}
	var shipped struct {
		Parcel string `json:"parcel"`
	}
	if err := instance.Outputs["ship"].Decode(&shipped); err != nil {
		return err
	}
	fmt.Println(instance.State, shipped.Parcel)
	return nil
}
