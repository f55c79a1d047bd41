// Package perdure is the Go client for perdure, a server for durable workflow instances.
//
//	client, err := perdure.New("127.0.0.1:7420", nil)
//	...
//	started, err := client.StartInstance(ctx, "order", map[string]any{"items": []string{"lamp"}}, nil)
//	...
//	_, err = client.Resume(ctx, started.InstanceID, "reserved", nil, &perdure.ResumeOptions{Buffer: true})
//
// A [Client] is safe for concurrent use. The first argument of every method is a context. Its deadline limits the call,
// including retries. A context without a deadline gets [Options].Timeout. Options are the last argument and can be nil.
//
// Every call that writes carries a request ID, either yours or a random one. The server executes a request ID once, so the
// client retries calls automatically if the server cannot be reached, is shutting down, is overloaded, or cannot tell
// whether the write was committed.
//
// Methods return errors of type [*Error]. Match the reason with errors.Is:
//
//	if errors.Is(err, perdure.ErrEventNotAwaited) { ... }
//
// The generated messages and stubs are in perdure.dev/go/perdure/v1.
package perdure
