// An order from start to end: the warehouse answers, a person approves, the pause is cut short, the parcel leaves.
//
// It wants a server with examples/order.py at the address in its first argument (default 127.0.0.1:7420).
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

	// The answers may be quicker than the steps that wait for them: Buffer keeps them until then.
	early := &perdure.ResumeOptions{Buffer: true}
	shelf := map[string]any{"shelf": "B4"}
	if _, err := client.Resume(ctx, started.InstanceID, "reserved", shelf, early); err != nil {
		return err
	}
	if _, err := client.Resume(ctx, started.InstanceID, "approved", nil, early); err != nil {
		return err
	}

	whole := &perdure.WatchOptions{AfterRevision: new(int64(0))}
	for event, err := range client.WatchInstance(ctx, started.InstanceID, whole) {
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
		return fmt.Errorf("the order is %s", instance.State)
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
