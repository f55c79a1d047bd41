// Command conformance is the driver for the scenarios in tests/conformance. It reads one JSON request per line from stdin
// and writes one JSON response per line, in the same order. It uses only the public API of the package.
//
// The operations are in operations.go, the watches in watches.go, and the results in results.go.
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

type response struct {
	ID    json.RawMessage `json:"id"`
	OK    any             `json:"ok,omitempty"`
	Error *callError      `json:"error,omitempty"`
}

type callError struct {
	Reason     string            `json:"reason"`
	Code       string            `json:"code"`
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
			closing, failed := respond(ctx, driver, line, out)
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

func respond(ctx context.Context, driver *driver, line []byte, out io.Writer) (closing bool, err error) {
	var received request
	if err := json.Unmarshal(line, &received); err != nil {
		return false, fmt.Errorf("invalid request: %w", err)
	}
	sent := response{ID: received.ID}
	result, err := driver.perform(ctx, received.Op, received.Args)
	if err != nil {
		sent.Error = callErrorOf(err)
	} else {
		sent.OK = result
	}
	text, err := json.Marshal(sent)
	if err != nil {
		return false, err
	}
	_, err = out.Write(append(text, '\n'))
	return received.Op == "close", err
}

func callErrorOf(err error) *callError {
	result := &callError{Code: "UNKNOWN", Message: err.Error(), Metadata: map[string]string{}, Violations: []violation{}}
	var failure *perdure.Error
	if !errors.As(err, &failure) {
		return result
	}
	result.Reason = string(failure.Reason)
	result.Code = code.Code(failure.Code).String()
	result.Message = failure.Message
	if failure.Metadata != nil {
		result.Metadata = failure.Metadata
	}
	for _, invalid := range failure.Violations {
		result.Violations = append(result.Violations, violation(invalid))
	}
	return result
}
