// Package perdure is the Go client of perdure: durable workflow instances that are started, resumed by events and
// resumed by time.
//
//	client, err := perdure.New("127.0.0.1:7420", nil)
//	...
//	started, err := client.StartInstance(ctx, "order", map[string]any{"items": []string{"lamp"}}, nil)
//	...
//	_, err = client.Resume(ctx, started.InstanceID, "reserved", nil, &perdure.ResumeOptions{Buffer: true})
//
// A [Client] is safe for any number of goroutines. Every call takes a context first, whose deadline bounds the call
// with all its retries; without one, [Options].Timeout does. Options come last and may be nil.
//
// Mutating calls carry a request id (yours, or a random one), so the server carries each out once however often it is
// sent. That is why the client sends a call again by itself when the server cannot be reached, restarts, does not know
// the outcome or is overloaded.
//
// Refusals are [*Error], matched by reason with errors.Is:
//
//	if errors.Is(err, perdure.ErrEventNotAwaited) { ... }
//
// The generated messages and stubs are in perdure.dev/go/perdure/v1, for what this package leaves out.
package perdure
