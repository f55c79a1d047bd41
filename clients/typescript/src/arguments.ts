/**
 * Validation of arguments. Rejects only values that cannot be sent at all; the server checks every rule of the API.
 *
 * Each function throws `InvalidFieldError` that names the field.
 */

import type { DescEnum } from "@bufbuild/protobuf";

import { InvalidFieldError } from "./errors.js";
import { encodeJson, RawJson } from "./json.js";

const INT64_MAX = 2n ** 63n - 1n;

/** Returns an optional string, empty if absent. */
export function text(field: string, value: string | undefined): string {
  if (value === undefined) return "";
  if (typeof value !== "string") throw InvalidFieldError.of(field, `must be a string, not ${typeof value}`);
  // protobuf would silently replace the surrogate with U+FFFD.
  if (!value.isWellFormed()) throw InvalidFieldError.of(field, "contains a lone surrogate");
  return value;
}

/** Returns a required string. */
export function required(field: string, value: string): string {
  return text(field, present(field, value));
}

/** Returns a required value. */
export function present<T>(field: string, value: T): T {
  if (value === undefined || value === null) throw InvalidFieldError.of(field, `is required, but is ${String(value)}`);
  return value;
}

/** Returns an optional boolean, false if absent. */
export function bool(field: string, value: boolean | undefined): boolean {
  if (value !== undefined && typeof value !== "boolean")
    throw InvalidFieldError.of(field, `must be a boolean, not ${typeof value}`);
  return value ?? false;
}

/** Returns an optional array, empty if absent. */
export function list<T>(field: string, value: readonly T[] | undefined): readonly T[] {
  if (value !== undefined && !Array.isArray(value))
    throw InvalidFieldError.of(field, `must be an array, not ${typeof value}`);
  return value ?? [];
}

/** Returns an optional 64-bit integer, 0 if absent. */
export function int64(field: string, value: number | bigint | undefined): bigint {
  if (value !== undefined && typeof value !== "bigint" && !Number.isInteger(value))
    throw InvalidFieldError.of(field, `must be an integer, not ${shown(value)}`);
  const exact = BigInt(value ?? 0);
  if (exact > INT64_MAX || exact < -INT64_MAX - 1n)
    throw InvalidFieldError.of(field, `must fit into 64 bits, but is ${exact}`);
  return exact;
}

/** Returns an optional 32-bit integer, 0 if absent. */
export function int32(field: string, value: number | undefined): number {
  return within(field, value ?? 0, -(2 ** 31), 2 ** 31 - 1);
}

/** Returns an optional unsigned 32-bit integer, 0 if absent. */
export function uint32(field: string, value: number | undefined): number {
  return within(field, value ?? 0, 0, 2 ** 32 - 1);
}

function shown(value: unknown): string {
  return typeof value === "number" || typeof value === "bigint" ? String(value) : `a value of type ${typeof value}`;
}

function within(field: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw InvalidFieldError.of(field, `must be an integer from ${min} to ${max}, not ${shown(value)}`);
}

/** Returns optional labels, none if absent. */
export function labels(field: string, value: Readonly<Record<string, string>> | undefined): Record<string, string> {
  if (value !== undefined && (typeof value !== "object" || value === null || Array.isArray(value)))
    throw InvalidFieldError.of(
      field,
      `must be an object of strings, not ${Array.isArray(value) ? "an array" : typeof value}`,
    );
  const pairs = Object.entries(value ?? {});
  return Object.fromEntries(
    pairs.map(([key, label]) => [text(field, key), required(`${field}[${JSON.stringify(key)}]`, label)]),
  );
}

/** Returns the number of an enum value, given its short name. */
export function member<N extends number>(field: string, desc: DescEnum, name: string): N {
  const found = desc.values.find((value) => value.localName === name && value.number !== 0);
  if (found !== undefined) return found.number as N;
  const known = desc.values.filter((value) => value.number !== 0).map((value) => value.localName);
  throw InvalidFieldError.of(field, `must be one of ${known.join(", ")}, not ${JSON.stringify(name)}`);
}

/** Returns a payload message, or undefined for `undefined`. */
export function payload(field: string, value: unknown) {
  return value === undefined ? undefined : { body: { case: "json" as const, value: json(field, value) } };
}

function json(field: string, value: unknown): string {
  return value instanceof RawJson ? text(field, value.text) : encodeJson(value, field);
}
