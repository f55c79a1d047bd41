import assert from "node:assert/strict";
import { test } from "node:test";

import { encodeJson, InvalidFieldError, JSON_DEPTH_MAX, parseJson, JsonText, type JsonValue } from "perdure";

function refusedAt(value: unknown): string {
  try {
    encodeJson(value, "context");
  } catch (error) {
    assert.ok(error instanceof InvalidFieldError);
    return error.violations.map((violation) => violation.field).join();
  }
  return "nowhere";
}

test("integers of any size come back as they went", () => {
  for (const value of [2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n), 10n ** 30n]) {
    assert.equal(encodeJson({ value }), `{"value":${value}}`);
    assert.deepEqual(parseJson(`[${value}]`), [value]);
  }
  for (const value of [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0])
    assert.equal(parseJson(encodeJson(value)), value);
});

test("a number beyond the exact integers is written as what it is, a float", () => {
  assert.equal(encodeJson(2 ** 60), "1.152921504606847e+18");
  assert.equal(parseJson(encodeJson(2 ** 60)), 2 ** 60);
  assert.equal(parseJson("1e400000"), Infinity);
});

test("every kind of value around a large integer is read as JSON.parse reads it", () => {
  const text =
    ' { "n" : null, "t":true,"f" : false, "\\"\\\\" : "a\\"\\u00e9\\ud83d\\ude00]}", "e":[], "o":{ },\n' +
    '"x":[ -1.50, 2e3 , 12345678901234567, "12345678901234567" ], "__proto__":{"a":1}, "\u2028":"\u{1F600}" } ';
  const expected = JSON.parse(text) as Record<string, JsonValue>;
  expected["x"] = [-1.5, 2000, 12345678901234567n, "12345678901234567"];
  assert.deepEqual(parseJson(text), expected);
  assert.ok(Object.hasOwn(parseJson(text) as object, "__proto__"));
});

test("text that is no JSON is refused", () => {
  for (const text of ["", "{", "[1,]", "NaN", "12345678901234567x"]) assert.throws(() => parseJson(text), SyntaxError);
});

test("what JSON cannot say is refused with its place", () => {
  assert.equal(refusedAt({ items: [1, NaN] }), "context.items[1]");
  assert.equal(refusedAt({ a: { b: -Infinity } }), "context.a.b");
  assert.equal(refusedAt([undefined]), "context[0]");
  assert.equal(refusedAt([, 1]), "context[0]");
  assert.equal(refusedAt({ a: new Map() }), "context.a");
  assert.equal(refusedAt({ a: () => 1 }), "context.a");
  assert.equal(refusedAt({ a: "\ud800" }), "context.a");
  assert.equal(refusedAt({ "\udc00": 1 }), "context");
  const cycle: Record<string, unknown> = {};
  cycle["self"] = cycle;
  assert.equal(refusedAt(cycle), `context${".self".repeat(JSON_DEPTH_MAX)}`);
});

test("properties without a value are left out, toJSON is honoured, classes are objects", () => {
  class Order {
    items = ["lamp"];
    note = undefined;
  }
  assert.equal(encodeJson([new Order(), new Date(0)]), '[{"items":["lamp"]},"1970-01-01T00:00:00.000Z"]');
});

test("raw text passes through as it stands", () => {
  assert.equal(encodeJson({ a: new JsonText("1.50"), b: [new JsonText('"\\u00e9"')] }), '{"a":1.50,"b":["\\u00e9"]}');
});
