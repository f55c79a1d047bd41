/**
 * Conversion between JavaScript values and JSON text.
 *
 * `lossless-json` reads and writes the text. This module adds rules that the library does not have: it rejects values that
 * JSON cannot represent, names their place, limits the depth, and inserts `RawJson` unchanged.
 * Must not: know messages or gRPC.
 */

import { isInteger, LosslessNumber, parse, stringify } from "lossless-json";

import { InvalidFieldError } from "./errors.js";

/** A value that was read from JSON. Integers beyond ±(2^53 - 1) are `bigint`, all other numbers are `number`. */
export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  [key: string]: JsonValue;
}

/** Maximum nesting of a payload. The server has the same limit; checking it here names the place. */
export const JSON_DEPTH_MAX = 100;

/** JSON text that is sent unchanged, byte for byte: as a whole payload or as a part of one. */
export class RawJson {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

/**
 * Returns the value of a JSON text. Integers beyond ±(2^53 - 1) are `bigint`. Other numbers are rounded as `JSON.parse`
 * does it. If an object contains a key more than once, the last value is used.
 *
 * Throws `SyntaxError` if `text` is not valid JSON, and `RangeError` if it is nested thousands of levels deep.
 */
export function parseJson(text: string): JsonValue {
  // JSON.parse is faster and stricter (the library accepts `.5`). It rounds only integers of at least 16 digits.
  const value = JSON.parse(text) as JsonValue;
  if (!/\d{16}/.test(text)) return value;
  return parse(text, null, { parseNumber, onDuplicateKey: ({ newValue }) => newValue }) as JsonValue;
}

function parseNumber(digits: string): number | bigint {
  const value = Number(digits);
  return isInteger(digits) && !Number.isSafeInteger(value) ? BigInt(digits) : value;
}

/**
 * Returns `value` as JSON text.
 *
 * A `bigint` becomes an integer. A property that is `undefined` is omitted. An object with a `toJSON` method is replaced
 * by its result.
 *
 * Throws `InvalidFieldError` if JSON cannot represent a part of the value. Its violation names the place, which starts
 * with `field`.
 */
export function encodeJson(value: unknown, field = "value"): string {
  if (value instanceof RawJson) return value.text;
  // The library inserts no text but numbers. A part that is RawJson is first written as a random string.
  const raw: string[] = [];
  const mark = crypto.randomUUID();
  const places = new Map<unknown, Place>();

  function replace(this: unknown, key: string, given: unknown): unknown {
    const parent = places.get(this);
    const inArray = Array.isArray(this);
    const place = parent === undefined ? field : `${parent.path}${inArray ? `[${key}]` : `.${key}`}`;
    const item = plain(given, key, place);
    if (item === undefined && parent !== undefined && !inArray) return undefined; // the library omits the property
    if (parent !== undefined && !key.isWellFormed())
      throw InvalidFieldError.of(parent.path, "contains a key with a lone surrogate");
    if (item instanceof RawJson) return `${mark}:${raw.push(checkedText(item, place)) - 1}`;
    if (typeof item !== "object" || item === null) return scalar(item, place);
    const depth = (parent?.depth ?? 0) + 1;
    if (depth > JSON_DEPTH_MAX) throw InvalidFieldError.of(place, `is nested more than ${JSON_DEPTH_MAX} levels deep`);
    checkObject(item, place);
    places.set(item, { path: place, depth });
    return item;
  }

  const text = stringify(value, replace)!;
  if (raw.length === 0) return text;
  return text.replace(new RegExp(`"${mark}:(\\d+)"`, "g"), (_, index: string) => raw[Number(index)]!);
}

/** Path and nesting of an array or object that is being written. */
interface Place {
  readonly path: string;
  readonly depth: number;
}

function plain(value: unknown, key: string, place: string): unknown {
  if (!hasToJson(value)) return value;
  const result = value.toJSON(key);
  // The library would call it again, without end if an object returns itself.
  if (hasToJson(result))
    throw InvalidFieldError.of(place, "has a toJSON method that returns an object with a toJSON method");
  return result;
}

function hasToJson(value: unknown): value is { toJSON(key: string): unknown } {
  return typeof value === "object" && value !== null && "toJSON" in value && typeof value.toJSON === "function";
}

function scalar(value: unknown, place: string): unknown {
  switch (typeof value) {
    case "string":
      if (!value.isWellFormed()) throw InvalidFieldError.of(place, "contains a lone surrogate");
      return value;
    case "number":
      if (!Number.isFinite(value)) throw InvalidFieldError.of(place, `cannot encode ${value} as JSON`);
      // Beyond 2^53 a number may stand for several integers. With an exponent it is not read as an exact one.
      return Number.isInteger(value) && !Number.isSafeInteger(value)
        ? new LosslessNumber(value.toExponential())
        : value;
    case "boolean":
    case "bigint":
      return value;
    default:
      if (value === null) return null;
      throw InvalidFieldError.of(place, `cannot encode ${value === undefined ? "undefined" : `a ${typeof value}`} as JSON`);
  }
}

function checkObject(value: object, place: string): void {
  if (Array.isArray(value)) return;
  const tag = Object.prototype.toString.call(value).slice("[object ".length, -1);
  if (tag !== "Object") throw InvalidFieldError.of(place, `cannot encode a ${tag} as JSON`);
  // The library takes any object with this property for a number of its own.
  if ("isLosslessNumber" in value)
    throw InvalidFieldError.of(place, "contains the reserved key 'isLosslessNumber'", "pass the object as RawJson");
}

function checkedText({ text }: RawJson, place: string): string {
  if (!text.isWellFormed()) throw InvalidFieldError.of(place, "contains a lone surrogate");
  try {
    JSON.parse(text);
  } catch {
    throw InvalidFieldError.of(place, "is RawJson whose text is not valid JSON");
  }
  return text;
}
