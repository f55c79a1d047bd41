package perdure

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"unicode/utf8"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// Payloads: Go's values as JSON text and back.

// JSON is one JSON value as text, byte for byte as it was sent. The empty JSON is no value.
//
// Everywhere a context or a payload is given, a JSON (or a json.RawMessage) is sent as it stands; any other value is
// encoded by encoding/json.
type JSON string

// Decode stores the value in what target points to, as json.Unmarshal does, with one difference: a number that goes
// into an `any` becomes a json.Number, so that 64-bit integers stay exact. No value decodes like null.
func (j JSON) Decode(target any) error {
	text := string(j)
	if text == "" {
		text = "null"
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(target)
}

// MarshalJSON lets a JSON be part of a larger value.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == "" {
		return []byte("null"), nil
	}
	return []byte(j), nil
}

func jsonOf(payload *perdurev1.Payload) JSON {
	return JSON(payload.GetJson())
}

// payloadOf encodes a caller's value; nil for none. What JSON cannot say is refused before anything is sent.
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
	// encoding/json replaces bytes that are no UTF-8 by this escape without a word; the real U+FFFD is written plainly.
	if strings.Contains(text, `\ufffd`) && hasBadString(reflect.ValueOf(value)) {
		return nil, invalidField(field, "a string in it is not UTF-8")
	}
	return jsonPayload(text), nil
}

// contextOf is payloadOf for a context, which is an object: an empty one where the value is a nil map or pointer.
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

// textPayload takes a caller's text unchanged. An empty text means no value.
func textPayload(text string) *perdurev1.Payload {
	if text == "" {
		return nil
	}
	return jsonPayload(text)
}

func jsonPayload(text string) *perdurev1.Payload {
	return &perdurev1.Payload{Body: &perdurev1.Payload_Json{Json: text}}
}

// hasBadString tells whether a string that encoding/json can reach is not UTF-8. The value has been encoded already,
// so it holds no cycle.
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
