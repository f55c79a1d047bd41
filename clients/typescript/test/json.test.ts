import assert from "node:assert/strict";
import { test } from "node:test";

import { encodeJson, InvalidFieldError, JSON_DEPTH_MAX, parseJson, RawJson, type JsonValue } from "perdure";

const DIGITS = "9".repeat(400);

function rejectedAt(value: unknown): string {
  try {
    encodeJson(value, "context");
  } catch (error) {
    assert.ok(error instanceof InvalidFieldError, String(error));
    return error.violations.map((violation) => violation.field).join();
  }
  return "nowhere";
}

function nested(depth: number, inner = "12345678901234567890"): string {
  return "[".repeat(depth) + inner + "]".repeat(depth);
}

test("integers of any size are exact in both directions", () => {
  for (const value of [2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 64n, BigInt(DIGITS), -BigInt(DIGITS)]) {
    assert.equal(encodeJson({ value }), `{"value":${value}}`);
    assert.deepEqual(parseJson(`[${value}]`), [value]);
    assert.equal(encodeJson(parseJson(` ${value} `)), String(value));
  }
  for (const value of [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0, -1])
    assert.equal(parseJson(encodeJson(value)), value);
  assert.equal(parseJson("9007199254740991"), Number.MAX_SAFE_INTEGER);
  assert.equal(parseJson("9007199254740992"), 2n ** 53n);
});

test("a number beyond the exact integers is written with an exponent", () => {
  assert.equal(encodeJson(2 ** 60), "1.152921504606847e+18");
  assert.equal(parseJson(encodeJson(2 ** 60)), 2 ** 60);
  assert.equal(encodeJson([1.5, -0.25, 5e-324, 1.7976931348623157e308]), "[1.5,-0.25,5e-324,1.7976931348623157e+308]");
});

test("numbers that are not integers are read as JSON.parse reads them", () => {
  const numbers = ["1.10", "1E+2", "0.1234567890123456789", `1.${DIGITS}`, `${DIGITS}.5`, "1e400000", "1e-400"];
  for (const text of numbers) assert.equal(parseJson(text), JSON.parse(text), text);
});

test("negative zero is read as such and written as 0", () => {
  assert.ok(Object.is(parseJson("-0"), -0));
  assert.ok(Object.is((parseJson("[-0.0, 12345678901234567890]") as JsonValue[])[0], -0));
  assert.equal(encodeJson([-0, 0]), "[0,0]");
});

test("values next to a large integer are read as JSON.parse reads them", () => {
  const text =
    ' { "n" : null, "t":true,"f" : false, "\\"\\\\" : "a\\"\\u00e9\\ud83d\\ude00]}", "e":[], "o":{ },\n' +
    '"x":[ -1.50, 2e3 , 12345678901234567, "12345678901234567" ], "__proto__":{"a":1}, "\u2028":"\u{1F600}" } ';
  const expected = JSON.parse(text) as Record<string, JsonValue>;
  expected["x"] = [-1.5, 2000, 12345678901234567n, "12345678901234567"];
  const value = parseJson(text) as object;
  assert.deepEqual(value, expected);
  assert.deepEqual(Object.keys(value), Object.keys(expected));
  assert.ok(Object.hasOwn(value, "__proto__"));
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
});

test("the key __proto__ is an ordinary key in both directions", () => {
  for (const text of ['{"__proto__":12345678901234567890,"b":1}', '{"\\u005f_proto__":{"a":1},"b":1}']) {
    const value = parseJson(text) as object;
    assert.deepEqual(Object.keys(value), ["__proto__", "b"]);
    assert.equal(encodeJson(value), text.replace("\\u005f", "_"));
  }
});

test("the last value of a duplicate key is used, with or without a large integer", () => {
  assert.equal(encodeJson(parseJson('{"a":1,"b":2,"a":{"c":3}}')), '{"a":{"c":3},"b":2}');
  assert.equal(encodeJson(parseJson(`{"a":1,"b":2,"a":${2n ** 70n}}`)), `{"a":${2n ** 70n},"b":2}`);
});

test("the order of keys is kept", () => {
  const text = `{"z":1,"a":{"y":${2n ** 70n},"b":2},"m":[]}`;
  assert.equal(encodeJson(parseJson(text)), text);
});

test("text that is not valid JSON is rejected", () => {
  const large = "12345678901234567890";
  for (const text of ["", "{", "[1,]", "NaN", `${large}x`, `[${large},.5]`, `[${large},01]`, `{"a":${large},}`, "\u00a01"])
    assert.throws(() => parseJson(text), SyntaxError, text);
});

test("values that JSON cannot represent are rejected with their place", () => {
  assert.equal(rejectedAt({ items: [1, NaN] }), "context.items[1]");
  assert.equal(rejectedAt({ a: { b: -Infinity } }), "context.a.b");
  assert.equal(rejectedAt([undefined]), "context[0]");
  assert.equal(rejectedAt([, 1]), "context[0]");
  assert.equal(rejectedAt({ a: new Map() }), "context.a");
  assert.equal(rejectedAt({ a: () => 1 }), "context.a");
  assert.equal(rejectedAt({ a: [Symbol("a")] }), "context.a[0]");
  assert.equal(rejectedAt({ a: new Number(1) }), "context.a");
  assert.equal(rejectedAt({ a: { isLosslessNumber: true } }), "context.a");
  assert.equal(rejectedAt(undefined), "context");
});

test("lone surrogates are rejected with their place, pairs are not", () => {
  assert.equal(rejectedAt({ a: "\ud800" }), "context.a");
  assert.equal(rejectedAt({ a: [{ "\udc00": 1 }] }), "context.a[0]");
  assert.equal(rejectedAt({ a: new RawJson('"\ud800"') }), "context.a");
  assert.equal(encodeJson({ "\u{1F600}": "\u{1F680}" }), '{"\u{1F600}":"\u{1F680}"}');
});

test("nesting is limited to 100 levels", () => {
  assert.equal(encodeJson(parseJson(nested(JSON_DEPTH_MAX))), nested(JSON_DEPTH_MAX));
  assert.equal(rejectedAt(parseJson(nested(JSON_DEPTH_MAX + 1))), `context${"[0]".repeat(JSON_DEPTH_MAX)}`);
  const cycle: Record<string, unknown> = {};
  cycle["self"] = cycle;
  assert.equal(rejectedAt(cycle), `context${".self".repeat(JSON_DEPTH_MAX)}`);
});

test("an object can occur several times in a value", () => {
  const shared = { a: [1] };
  assert.equal(encodeJson([shared, { b: shared }, shared]), '[{"a":[1]},{"b":{"a":[1]}},{"a":[1]}]');
});

test("undefined properties are omitted and toJSON is called", () => {
  class Order {
    items = ["lamp"];
    note = undefined;
  }
  assert.equal(encodeJson([new Order(), new Date(0)]), '[{"items":["lamp"]},"1970-01-01T00:00:00.000Z"]');
  assert.equal(encodeJson({ a: { toJSON: () => [2n ** 64n] }, b: { toJSON: () => undefined } }), `{"a":[${2n ** 64n}]}`);
  const endless = { toJSON: (): unknown => endless };
  assert.equal(rejectedAt({ a: endless }), "context.a");
});

test("RawJson is written unchanged", () => {
  const text = '{ "a": "\\u00e9", "a": 1.50 }';
  assert.equal(encodeJson(new RawJson(text)), text);
  const value = { a: new RawJson("1.50"), b: [new RawJson(text), "$1 $&"], c: new RawJson('"$& $1"') };
  assert.equal(encodeJson(value), `{"a":1.50,"b":[${text},"$1 $&"],"c":"$& $1"}`);
});

test("RawJson inside a value must be a complete JSON text", () => {
  for (const text of ["", "1,2", '1}, {"a": 2', "NaN"]) assert.equal(rejectedAt([new RawJson(text)]), "context[0]");
});
