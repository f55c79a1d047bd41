// Command hello is the program of the client's README. It starts an instance, resumes it and prints its output.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"perdure.dev/go/perdure"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	client, err := perdure.New(perdure.DefaultTarget, nil)
	if err != nil {
		return err
	}
	defer client.Close()

	started, err := client.StartInstance(ctx, "hello", map[string]any{"name": "Ada"}, nil)
	if err != nil {
		return err
	}
	// The instance may not wait for the event yet. Buffer keeps the event until it does.
	early := &perdure.ResumeOptions{Buffer: true}
	if _, err := client.Resume(ctx, started.InstanceID, "replied", nil, early); err != nil {
		return err
	}
	instance, err := client.WaitForEnd(ctx, started.InstanceID, nil)
	if err != nil {
		return err
	}

	var greeting struct {
		Text string `json:"text"`
	}
	if err := instance.Outputs["greet"].Decode(&greeting); err != nil {
		return err
	}
	fmt.Println(instance.State, greeting.Text)
	return nil
}
