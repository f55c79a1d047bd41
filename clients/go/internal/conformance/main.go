// The conformance driver: JSON lines in, JSON lines out, one answer per request and in their order.
//
// It uses the package as any program would. What lives here: the protocol. The operations are in operations.go, the
// watches in watches.go.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/genproto/googleapis/rpc/code"

	"perdure.dev/go/perdure"
)

type request struct {
	ID   json.RawMessage `json:"id"`
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args"`
}

type answer struct {
	ID    json.RawMessage `json:"id"`
	OK    any             `json:"ok,omitempty"`
	Error *refusal        `json:"error,omitempty"`
}

type refusal struct {
	Reason     string            `json:"reason"`
	Status     string            `json:"status"`
	Message    string            `json:"message"`
	Metadata   map[string]string `json:"metadata"`
	Violations []violation       `json:"violations"`
}

type violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

type object map[string]any

func main() {
	if err := serve(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, in io.Reader, out io.Writer) error {
	driver := &driver{watches: map[string]*watch{}}
	defer driver.close()
	requests := bufio.NewReader(in)
	for {
		line, err := requests.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			closing, failed := answerTo(ctx, driver, line, out)
			if failed != nil || closing {
				return failed
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func answerTo(ctx context.Context, driver *driver, line []byte, out io.Writer) (closing bool, err error) {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return false, fmt.Errorf("no request: %w", err)
	}
	told := answer{ID: asked.ID}
	result, err := driver.perform(ctx, asked.Op, asked.Args)
	if err != nil {
		told.Error = refusalOf(err)
	} else {
		told.OK = result
	}
	text, err := json.Marshal(told)
	if err != nil {
		return false, err
	}
	_, err = out.Write(append(text, '\n'))
	return asked.Op == "close", err
}

func refusalOf(err error) *refusal {
	told := &refusal{Status: "UNKNOWN", Message: err.Error(), Metadata: map[string]string{}, Violations: []violation{}}
	var failure *perdure.Error
	if !errors.As(err, &failure) {
		return told
	}
	told.Reason = string(failure.Reason)
	told.Status = code.Code(failure.Status).String()
	told.Message = failure.Message
	if failure.Metadata != nil {
		told.Metadata = failure.Metadata
	}
	for _, wrong := range failure.Violations {
		told.Violations = append(told.Violations, violation(wrong))
	}
	return told
}
