package perdure

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"
)

func TestValuesAreEncodedAsJSON(t *testing.T) {
	huge, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	for want, value := range map[string]any{
		`{"n":9007199254740993}`:          map[string]int64{"n": 9007199254740993},
		`18446744073709551615`:            uint64(math.MaxUint64),
		`123456789012345678901234567890`:  huge,
		`"<a> & ü€😀 �"`:                   "<a> & ü€😀 \uFFFD",
		`{ "is":  "unchanged", "n":1.50}`: JSON(`{ "is":  "unchanged", "n":1.50}`),
		` [1]`:                            json.RawMessage(` [1]`),
		`{"inside":[1.50]}`:               map[string]any{"inside": JSON(`[1.50]`)},
	} {
		payload, err := payloadOf("payload", value)
		if err != nil || payload.GetJson() != want {
			t.Errorf("%s became %s (%v)", want, payload.GetJson(), err)
		}
	}
}

func TestValuesThatJSONCannotRepresentAreRejected(t *testing.T) {
	type named struct{ Name string }
	for name, value := range map[string]any{
		"NaN":                   math.NaN(),
		"a channel":             make(chan int),
		"a bad string":          "\xff",
		"a bad string in a map": map[string]any{"a": []any{named{"\xff"}}},
		"a bad key":             map[string]int{"\xff": 1},
	} {
		if payload, err := payloadOf("payload", value); !errors.Is(err, ErrInvalidField) {
			t.Errorf("%s became %s (%v)", name, payload.GetJson(), err)
		}
	}
	if _, err := payloadOf("payload", map[string]any{"an escape": JSON(`"\ufffd"`), "a letter": "\uFFFD"}); err != nil {
		t.Error("a replacement character of the caller is a valid string:", err)
	}
}

func TestNilContextIsEmpty(t *testing.T) {
	var none map[string]any
	for _, value := range []any{nil, none} {
		if payload, err := contextOf(value); payload != nil || err != nil {
			t.Error(payload, err)
		}
	}
	if payload, _ := contextOf(JSON("null")); payload.GetJson() != "null" {
		t.Error("a JSON is sent unchanged, even if it is invalid:", payload)
	}
}

func TestNumbersStayExact(t *testing.T) {
	var value map[string]any
	if err := JSON(`{"n": 9007199254740993}`).Decode(&value); err != nil || value["n"] != json.Number("9007199254740993") {
		t.Error(value, err)
	}
	var typed struct{ N int64 }
	if err := JSON(`{"n": 9007199254740993}`).Decode(&typed); err != nil || typed.N != 9007199254740993 {
		t.Error(typed, err)
	}
	var absent *int
	if err := JSON("").Decode(&absent); err != nil || absent != nil {
		t.Error(absent, err)
	}
}
