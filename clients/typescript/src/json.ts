/**
 * JSON as it crosses the API: JavaScript values to text and back, exact or refused.
 *
 * `JSON.parse` bends integers beyond 2^53 and `JSON.stringify` drops or bends what JSON cannot say; here such integers
 * are `bigint`, and what has no JSON is refused with its place. `JsonText` passes text through untouched.
 * What may not live here: messages and gRPC.
 */

import { InvalidFieldError } from "./errors.js";

/** A value that came as JSON. Integers beyond ±(2^53 - 1) are `bigint`, all other numbers `number`. */
export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  [key: string]: JsonValue;
}

/** How deep a payload may be nested; the server's limit, kept here so that the answer names the place. */
export const JSON_DEPTH_MAX = 100;

/** JSON text that is sent as it stands, byte for byte: as a whole payload or anywhere inside one. */
export class JsonText {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

/**
 * Returns `value` as JSON text. `bigint`s become integers, properties that are `undefined` are left out, `toJSON` is
 * honoured. Throws `InvalidFieldError` for what JSON cannot say, naming the place under `field`.
 */
export function encodeJson(value: unknown, field = "value"): string {
  return written(value, field, JSON_DEPTH_MAX);
}

function written(given: unknown, place: string, depthLeft: number): string {
  const value = plain(given, place);
  switch (typeof value) {
    case "string":
      if (!value.isWellFormed()) throw refusal(place, "holds a lone surrogate");
      return JSON.stringify(value);
    case "number":
      return numeral(value, place);
    case "bigint":
      return value.toString();
    case "boolean":
      return value ? "true" : "false";
    case "object":
      break;
    default:
      throw refusal(place, `JSON has no ${typeof value}`);
  }
  if (value === null) return "null";
  if (value instanceof JsonText) return value.text;
  if (depthLeft === 0) throw refusal(place, `is nested more than ${JSON_DEPTH_MAX} deep`);
  if (Array.isArray(value)) {
    // By index: `map` would pass over holes.
    const items = Array.from(value, (item, index) => written(item, `${place}[${index}]`, depthLeft - 1));
    return `[${items.join(",")}]`;
  }
  const tag = Object.prototype.toString.call(value).slice("[object ".length, -1);
  if (tag !== "Object") throw refusal(place, `JSON has no ${tag}`);
  const members: string[] = [];
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue;
    if (!key.isWellFormed()) throw refusal(place, "has a key with a lone surrogate");
    members.push(`${JSON.stringify(key)}:${written(item, `${place}.${key}`, depthLeft - 1)}`);
  }
  return `{${members.join(",")}}`;
}

function plain(value: unknown, place: string): unknown {
  if (typeof value !== "object" || value === null || !("toJSON" in value)) return value;
  return typeof value.toJSON === "function" ? (value.toJSON(place) as unknown) : value;
}

function numeral(value: number, place: string): string {
  if (!Number.isFinite(value)) throw refusal(place, `JSON has no ${value}`);
  // Beyond 2^53 a number is no longer one integer. Written with an exponent, nobody reads it as an exact one.
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? value.toExponential() : JSON.stringify(value);
}

function refusal(place: string, description: string): InvalidFieldError {
  return new InvalidFieldError(`${place}: ${description}`, {
    violations: [{ field: place, description }],
  });
}

/** Returns the value of a JSON text, with `bigint` for integers beyond ±(2^53 - 1). Throws `SyntaxError`. */
export function parseJson(text: string): JsonValue {
  const value = JSON.parse(text) as JsonValue;
  // A number that `JSON.parse` could bend has at least 16 digits in a row; few texts have.
  return /\d{16}/.test(text) ? new Reader(text).value() : value;
}

/** Reads a text that `JSON.parse` has found correct, so that there is nothing to check. */
class Reader {
  private at = 0;

  constructor(private readonly text: string) {}

  value(): JsonValue {
    switch (this.peek()) {
      case "{":
        return this.object();
      case "[":
        return this.array();
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  private peek(): string {
    while (" \t\n\r".includes(this.text.charAt(this.at))) this.at++;
    return this.text.charAt(this.at);
  }

  private word<T extends JsonValue>(text: string, value: T): T {
    this.at += text.length;
    return value;
  }

  private number(): number | bigint {
    const start = this.at;
    while (/[-+.\deE]/.test(this.text.charAt(this.at))) this.at++;
    const numeral = this.text.slice(start, this.at);
    const value = Number(numeral);
    return /^-?\d+$/.test(numeral) && !Number.isSafeInteger(value) ? BigInt(numeral) : value;
  }

  private string(): string {
    const start = this.at++;
    while (this.text.charAt(this.at) !== '"') this.at += this.text.charAt(this.at) === "\\" ? 2 : 1;
    return JSON.parse(this.text.slice(start, ++this.at)) as string;
  }

  private array(): JsonValue[] {
    const items: JsonValue[] = [];
    this.at++;
    while (this.peek() !== "]") {
      items.push(this.value());
      if (this.peek() === ",") this.at++;
    }
    this.at++;
    return items;
  }

  private object(): JsonObject {
    const members: JsonObject = {};
    this.at++;
    while (this.peek() !== "}") {
      const key = this.string();
      this.peek();
      this.at++;
      // Not by assignment, which would take "__proto__" for the prototype.
      Object.defineProperty(members, key, {
        value: this.value(),
        writable: true,
        enumerable: true,
        configurable: true,
      });
      if (this.peek() === ",") this.at++;
    }
    this.at++;
    return members;
  }
}
