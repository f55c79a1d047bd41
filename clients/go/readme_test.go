package perdure_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"perdure.dev/go/perdure"
)

// The README's snippets, compiled. Each stands here word for word; the test below compares them.

func firstUse(ctx context.Context) error {
	client, err := perdure.New("127.0.0.1:7420", nil)
	if err != nil {
		return err
	}
	defer client.Close()

	order := map[string]any{"items": []int{1, 2}}
	started, err := client.StartInstance(ctx, "order", order, &perdure.StartOptions{BusinessKey: "order-17"})
	if err != nil {
		return err
	}
	shelf := map[string]any{"shelf": "B4"}
	early := &perdure.ResumeOptions{Buffer: true} // the order may not wait for it yet
	if _, err := client.Resume(ctx, started.InstanceID, "reserved", shelf, early); err != nil {
		return err
	}
	if _, err := client.ScheduleResume(ctx, started.InstanceID, "approval", time.Minute, nil); err != nil {
		return err
	}
	instance, err := client.WaitForEnd(ctx, started.InstanceID)
	if err != nil {
		return err
	}
	return payloads(instance)
}

func lists(ctx context.Context, client *perdure.Client) error {
	waiting := &perdure.ListInstancesOptions{States: []perdure.InstanceState{perdure.StateWaiting}}
	for instance, err := range client.ListInstances(ctx, waiting) {
		if err != nil {
			return err
		}
		fmt.Println(instance.InstanceID, instance.Revision)
	}
	return nil
}

func payloads(instance *perdure.Instance) error {
	var shipped struct {
		Parcel string `json:"parcel"`
		Number int64  `json:"number"`
	}
	if err := instance.Outputs["ship"].Decode(&shipped); err != nil {
		return err
	}
	return nil
}

func following(ctx context.Context, client *perdure.Client, instanceID string) error {
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

func failing(ctx context.Context, client *perdure.Client, instanceID string) error {
	_, err := client.Resume(ctx, instanceID, "approved", nil, nil)
	var refused *perdure.Error
	switch {
	case errors.Is(err, perdure.ErrEventNotAwaited):
		_, err = client.Resume(ctx, instanceID, "approved", nil, &perdure.ResumeOptions{Buffer: true})
	case errors.Is(err, perdure.ErrAmbiguousEvent) && errors.As(err, &refused):
		first := &perdure.ResumeOptions{StepRef: refused.StepRefs()[0]}
		_, err = client.Resume(ctx, instanceID, "approved", nil, first)
	}
	return err
}

func secured() error {
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

var _ = []any{firstUse, lists, payloads, following, failing, secured}

func TestTheREADMEsSnippetsCompile(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(snippets) < 6 {
		t.Fatal("found no snippets")
	}
	compiled := unindented(string(here))
	for _, snippet := range snippets {
		if !strings.Contains(compiled, unindented(snippet[1])) {
			t.Errorf("not compiled here:\n%s", snippet[1])
		}
	}
}

func unindented(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Join(lines, "\n")
}
