package perdure

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"unicode/utf8"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// JSON is the text of one JSON value, byte for byte as it was sent. The empty JSON means that there is no value.
//
// A context or a payload that is a JSON or a json.RawMessage is sent unchanged. Any other value is encoded with
// encoding/json.
type JSON string

// Decode stores the value in the variable that target points to. It works like json.Unmarshal, except that a number in an
// any becomes a json.Number, so that 64-bit integers stay exact. An empty JSON decodes like null.
func (j JSON) Decode(target any) error {
	text := string(j)
	if text == "" {
		text = "null"
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(target)
}

// MarshalJSON returns the text, so that a JSON can be part of a larger value. An empty JSON becomes null.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == "" {
		return []byte("null"), nil
	}
	return []byte(j), nil
}

func jsonOf(payload *perdurev1.Payload) JSON {
	return JSON(payload.GetJson())
}

// payloadOf encodes a caller's value. It returns nil for nil, and ErrInvalidField for a value that JSON cannot represent.
func payloadOf(field string, value any) (*perdurev1.Payload, error) {
	switch value := value.(type) {
	case nil:
		return nil, nil
	case JSON:
		return textPayload(string(value)), nil
	case json.RawMessage:
		return textPayload(string(value)), nil
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, invalidField(field, err.Error())
	}
	text := strings.TrimSuffix(buffer.String(), "\n")
	// encoding/json silently replaces invalid UTF-8 by this escape. It writes a real U+FFFD without an escape.
	if strings.Contains(text, `\ufffd`) && hasBadString(reflect.ValueOf(value)) {
		return nil, invalidField(field, "contains a string that is not valid UTF-8")
	}
	return jsonPayload(text), nil
}

// contextOf is payloadOf for a context, which must be an object: a nil map or pointer becomes an empty one.
func contextOf(value any) (*perdurev1.Payload, error) {
	payload, err := payloadOf("context", value)
	switch value.(type) {
	case JSON, json.RawMessage:
		return payload, err
	}
	if payload.GetJson() == "null" {
		return nil, err
	}
	return payload, err
}

// textPayload sends a caller's text unchanged. An empty text means that there is no value.
func textPayload(text string) *perdurev1.Payload {
	if text == "" {
		return nil
	}
	return jsonPayload(text)
}

func jsonPayload(text string) *perdurev1.Payload {
	return &perdurev1.Payload{Body: &perdurev1.Payload_Json{Json: text}}
}

// hasBadString reports whether encoding/json reaches a string that is not UTF-8. The value has been encoded already, so it
// does not contain a cycle.
func hasBadString(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.String:
		return !utf8.ValidString(value.String())
	case reflect.Pointer, reflect.Interface:
		return !value.IsNil() && hasBadString(value.Elem())
	case reflect.Map:
		for entries := value.MapRange(); entries.Next(); {
			if hasBadString(entries.Key()) || hasBadString(entries.Value()) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		for index := range value.Len() {
			if hasBadString(value.Index(index)) {
				return true
			}
		}
	case reflect.Struct:
		for index := range value.NumField() {
			field := value.Type().Field(index)
			if (field.IsExported() || field.Anonymous) && hasBadString(value.Field(index)) {
				return true
			}
		}
	}
	return false
}
