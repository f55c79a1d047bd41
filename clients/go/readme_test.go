package perdure_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"perdure.dev/go/perdure"
)

// The snippets of README.md, word for word, so that the compiler checks them. The complete program is samples/hello.

func startInstance(ctx context.Context, client *perdure.Client) error {
	order := map[string]any{"items": []int{1, 2}}
	started, err := client.StartInstance(ctx, "order", order, &perdure.StartOptions{
		BusinessKey: "order-17",
		Labels:      map[string]string{"region": "eu"},
	})
	if err != nil {
		return err
	}
	return resume(ctx, client, started)
}

func resume(ctx context.Context, client *perdure.Client, started *perdure.StartedInstance) error {
	shelf := map[string]any{"shelf": "B4"}
	early := &perdure.ResumeOptions{Buffer: true}
	if _, err := client.Resume(ctx, started.InstanceID, "reserved", shelf, early); err != nil {
		return err
	}
	timer, err := client.ScheduleResume(ctx, started.InstanceID, "approval", time.Minute, nil)
	if err != nil {
		return err
	}
	_, err = client.CancelTimer(ctx, timer.Reference, nil)
	return err
}

func listInstances(ctx context.Context, client *perdure.Client) error {
	waiting := &perdure.ListInstancesOptions{States: []perdure.InstanceState{perdure.StateWaiting}}
	for instance, err := range client.ListInstances(ctx, waiting) {
		if err != nil {
			return err
		}
		fmt.Println(instance.InstanceID, instance.Revision)
	}
	return nil
}

func readPayload(instance *perdure.Instance) error {
	var shipped struct {
		Parcel string `json:"parcel"`
		Number int64  `json:"number"`
	}
	if err := instance.Outputs["ship"].Decode(&shipped); err != nil {
		return err
	}
	return nil
}

func watchInstance(ctx context.Context, client *perdure.Client, instanceID string) error {
	for event, err := range client.WatchInstance(ctx, instanceID, nil) {
		if err != nil {
			return err
		}
		switch event := event.(type) {
		case *perdure.Snapshot:
			fmt.Println("now", event.Instance.State)
		case *perdure.HistoryEntry:
			fmt.Println(event.Revision, event.Kind, event.StepRef, event.Event)
		case *perdure.WatchEnd:
			fmt.Println("ended")
		}
	}
	return nil
}

func watchOptions() *perdure.WatchOptions {
	options := &perdure.WatchOptions{
		AfterRevision:    new(int64(7)),
		ReconnectTimeout: time.Hour,
		OnDisconnect:     func(err error) { log.Println("disconnected:", err) },
		OnReconnect:      func() { log.Println("reconnected") },
	}
	return options
}

func handleErrors(ctx context.Context, client *perdure.Client, instanceID string) error {
	_, err := client.Resume(ctx, instanceID, "approved", nil, nil)
	var failure *perdure.Error
	switch {
	case errors.Is(err, perdure.ErrEventNotAwaited):
		_, err = client.Resume(ctx, instanceID, "approved", nil, &perdure.ResumeOptions{Buffer: true})
	case errors.Is(err, perdure.ErrAmbiguousEvent) && errors.As(err, &failure):
		first := &perdure.ResumeOptions{StepRef: failure.StepRefs()[0]}
		_, err = client.Resume(ctx, instanceID, "approved", nil, first)
	}
	return err
}

func configureRetries() (*perdure.Client, error) {
	client, err := perdure.New("127.0.0.1:7420", &perdure.Options{
		Timeout: 10 * time.Second,
		Retry:   perdure.CallRetryPolicy{InitialBackoff: 50 * time.Millisecond, MaxAttempts: 5},
	})
	return client, err
}

func checkHealth(ctx context.Context, client *perdure.Client) error {
	health, err := client.CheckHealth(ctx, "")
	if err == nil && health == perdure.HealthServing {
		fmt.Println("ready")
	}
	return err
}

func useTLS() error {
	config, err := perdure.LoadTLS(perdure.TLSFiles{CA: "ca.pem", Cert: "client.pem", Key: "client.key"})
	if err != nil {
		return err
	}
	client, err := perdure.New("perdure.example:7420", &perdure.Options{
		TLS:      config,
		Metadata: map[string]string{"authorization": "Bearer ..."},
	})
	if err != nil {
		return err
	}
	return client.Close()
}

var _ = []any{
	startInstance, listInstances, readPayload, watchInstance, watchOptions, handleErrors, configureRetries, checkHealth,
	useTLS,
}

func TestREADMESnippetsCompile(t *testing.T) {
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(snippets) < 10 {
		t.Fatal("README.md does not contain the snippets")
	}
	var compiled []string
	for _, path := range []string{"readme_test.go", "samples/hello/main.go"} {
		compiled = append(compiled, unindented(read(t, path)))
	}
	for _, snippet := range snippets {
		isIn := func(source string) bool { return strings.Contains(source, unindented(snippet[1])) }
		if !slices.ContainsFunc(compiled, isIn) {
			t.Errorf("not compiled here or in samples/hello:\n%s", snippet[1])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func unindented(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Join(lines, "\n")
}
