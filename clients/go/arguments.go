package perdure

import (
	"crypto/rand"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Validation of arguments. The client validates only values that it cannot send. The server validates everything else.

// pageSizeDefault is the number of items that a list requests at a time.
const pageSizeDefault = 100

// timeoutMax is ten years. gRPC cannot represent much longer deadlines, so a longer timeout is the same as none.
const timeoutMax = 10 * 366 * 24 * time.Hour

// orDefault returns the zero value for nil options.
func orDefault[T any](options *T) T {
	if options == nil {
		var zero T
		return zero
	}
	return *options
}

// requestIDOr returns the caller's request ID, or a random one: every call that writes has a request ID.
func requestIDOr(given string) string {
	if given != "" {
		return given
	}
	return rand.Text()
}

func pageSize(given int) (int32, error) {
	if given == 0 {
		return pageSizeDefault, nil
	}
	if given < math.MinInt32 || given > math.MaxInt32 {
		return 0, invalidField("page_size", fmt.Sprintf("must fit into 32 bits, not %d", given))
	}
	return int32(given), nil
}

func checkNotNegative(field string, given time.Duration) error {
	if given < 0 {
		return invalidField(field, fmt.Sprintf("must not be negative, not %v", given))
	}
	return nil
}

// invalidField returns a rejection by the client itself, in the server's form.
func invalidField(field, description string) *Error {
	return &Error{
		Code:       codes.InvalidArgument,
		Reason:     ErrInvalidField,
		Message:    field + ": " + description,
		Violations: []FieldViolation{{Field: field, Description: description}},
	}
}

// refineUnsendable returns an error that names the fields that protobuf cannot encode: strings must be UTF-8. It returns
// failure if there is no such field.
func refineUnsendable(failure *Error, request proto.Message) *Error {
	var violations []FieldViolation
	collectBadStrings(request.ProtoReflect(), "", &violations)
	if len(violations) == 0 {
		return failure
	}
	refined := invalidField(violations[0].Field, violations[0].Description)
	refined.Violations, refined.RequestID = violations, failure.RequestID
	return refined
}

func collectBadStrings(message protoreflect.Message, path string, found *[]FieldViolation) {
	check := func(field protoreflect.FieldDescriptor, name string, value protoreflect.Value) {
		switch field.Kind() {
		case protoreflect.StringKind:
			if !utf8.ValidString(value.String()) {
				*found = append(*found, FieldViolation{Field: name, Description: "must be UTF-8"})
			}
		case protoreflect.MessageKind:
			collectBadStrings(value.Message(), name+".", found)
		}
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := path + string(field.Name())
		switch {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, item protoreflect.Value) bool {
				check(field.MapKey(), name, key.Value())
				check(field.MapValue(), name, item)
				return true
			})
		case field.IsList():
			for index := range value.List().Len() {
				check(field, fmt.Sprintf("%s[%d]", name, index), value.List().Get(index))
			}
		default:
			check(field, name, value)
		}
		return true
	})
}
