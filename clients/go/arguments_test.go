package perdure_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"perdure.dev/go/perdure"
	perdurev1 "perdure.dev/go/perdure/v1"
)

func TestNoTimeoutSetsNoDeadline(t *testing.T) {
	server := &stubServer{start: func(number int) error {
		if number == 1 {
			return rejection(codes.DeadlineExceeded, "") // the server's own limit
		}
		return nil
	}}
	client := serve(t, server, perdure.Options{Timeout: perdure.NoTimeout, Retry: fastRetry})

	started, err := client.StartInstance(t.Context(), "order", nil, nil)

	if err != nil || started.InstanceID != "i1" {
		t.Fatal(started, err)
	}
}

func TestWatchWithoutLimits(t *testing.T) {
	broken := stream{responses: []*perdurev1.WatchInstanceResponse{snapshot(1)}, err: rejection(codes.Unavailable, "")}
	last := stream{responses: []*perdurev1.WatchInstanceResponse{entry(2), end(2, instanceEnded)}}
	client := serve(t, &stubServer{watch: []stream{broken, last}},
		perdure.Options{Timeout: 20 * 366 * 24 * time.Hour, Retry: fastRetry})

	seen, err := revisions(t, client, &perdure.WatchOptions{ReconnectTimeout: perdure.NoTimeout})

	if err != nil || len(seen) != 3 {
		t.Fatal(seen, err)
	}
}

func TestInvalidOptionsAreRejectedByName(t *testing.T) {
	for field, options := range map[string]perdure.Options{
		"Timeout":              {Timeout: -1},
		"Retry.InitialBackoff": {Retry: perdure.CallRetryPolicy{InitialBackoff: -1}},
		"Retry.MaxBackoff":     {Retry: perdure.CallRetryPolicy{MaxBackoff: -time.Second}},
		"Retry.Multiplier":     {Retry: perdure.CallRetryPolicy{Multiplier: math.NaN()}},
		"Retry.MaxAttempts":    {Retry: perdure.CallRetryPolicy{MaxAttempts: -1}},
	} {
		_, err := perdure.New("127.0.0.1:1", &options)
		rejectedField(t, err, field)
	}
	for _, multiplier := range []float64{0.5, -1, math.Inf(1), math.Inf(-1), 1e300} {
		_, err := perdure.New("127.0.0.1:1", &perdure.Options{Retry: perdure.CallRetryPolicy{Multiplier: multiplier}})
		rejectedField(t, err, "Retry.Multiplier")
	}
	client, err := perdure.New("127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, err := range client.WatchInstance(t.Context(), "i1", &perdure.WatchOptions{ReconnectTimeout: -1}) {
		rejectedField(t, err, "ReconnectTimeout")
	}
	_, err = client.WaitForEnd(t.Context(), "i1", &perdure.WaitOptions{ReconnectTimeout: -1})
	rejectedField(t, err, "ReconnectTimeout")
	for _, err := range client.ListInstances(t.Context(), &perdure.ListInstancesOptions{PageSize: 1 << 40}) {
		rejectedField(t, err, "page_size")
	}
}

// rejectedField checks that the error names the field, and no other one.
func rejectedField(t *testing.T, err error, field string) {
	t.Helper()
	var failure *perdure.Error
	if !errors.As(err, &failure) || !errors.Is(err, perdure.ErrInvalidField) ||
		len(failure.Violations) != 1 || failure.Violations[0].Field != field {
		t.Errorf("%s: %v", field, err)
	}
}

func TestEmptyJSONSendsNoPayload(t *testing.T) {
	server := &stubServer{start: func(int) error { return nil }}
	client := serve(t, server, perdure.Options{})

	if _, err := client.StartInstance(t.Context(), "order", perdure.JSON(""), nil); err != nil {
		t.Fatal(err)
	}

	if sent := server.sent()[0].GetContext(); sent != nil {
		t.Error(sent)
	}
}

func TestInvalidUTF8IsReportedByField(t *testing.T) {
	client := serve(t, &stubServer{}, perdure.Options{})
	_, err := client.StartInstance(t.Context(), "order", perdure.JSON("{\"a\": \"\xff\"}"), &perdure.StartOptions{
		Labels: map[string]string{"a": "\xfe"},
	})
	var failure *perdure.Error
	if !errors.As(err, &failure) || failure.Reason != perdure.ErrInvalidField {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	for _, violation := range failure.Violations {
		fields[violation.Field] = true
	}
	if !fields["context.json"] || !fields["opts.labels"] || len(fields) != 2 {
		t.Error(failure.Violations)
	}
}
