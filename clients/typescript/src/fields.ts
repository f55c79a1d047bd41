/**
 * What a caller gives, checked for what the wire cannot carry at all, and no more: every rule of the API is the
 * server's to judge. Each function throws `InvalidFieldError` naming the field.
 */

import type { DescEnum } from "@bufbuild/protobuf";

import { InvalidFieldError } from "./errors.js";
import { encodeJson, JsonText } from "./json.js";

const INT64_MAX = 2n ** 63n - 1n;

function refusal(field: string, description: string): InvalidFieldError {
  return new InvalidFieldError(`${field}: ${description}`, { violations: [{ field, description }] });
}

export function text(field: string, value: string | undefined): string {
  if (value === undefined) return "";
  if (typeof value !== "string") throw refusal(field, `must be a string, not ${typeof value}`);
  // protobuf would put U+FFFD in its place, without a word.
  if (!value.isWellFormed()) throw refusal(field, "holds a lone surrogate");
  return value;
}

/** A text that must be given. */
export function required(field: string, value: string): string {
  return text(field, present(field, value));
}

export function present<T>(field: string, value: T): T {
  if (value === undefined || value === null) throw refusal(field, `must be given, not ${String(value)}`);
  return value;
}

export function bool(field: string, value: boolean | undefined): boolean {
  if (value !== undefined && typeof value !== "boolean") throw refusal(field, `must be a boolean, not ${typeof value}`);
  return value ?? false;
}

export function list<T>(field: string, value: readonly T[] | undefined): readonly T[] {
  if (value !== undefined && !Array.isArray(value)) throw refusal(field, `must be an array, not ${typeof value}`);
  return value ?? [];
}

export function int64(field: string, value: number | bigint | undefined): bigint {
  if (value !== undefined && typeof value !== "bigint" && !Number.isInteger(value))
    throw refusal(field, `must be an integer, not ${shown(value)}`);
  const exact = BigInt(value ?? 0);
  if (exact > INT64_MAX || exact < -INT64_MAX - 1n) throw refusal(field, `${exact} does not fit into 64 bits`);
  return exact;
}

export function int32(field: string, value: number | undefined): number {
  return within(field, value ?? 0, -(2 ** 31), 2 ** 31 - 1);
}

export function uint32(field: string, value: number | undefined): number {
  return within(field, value ?? 0, 0, 2 ** 32 - 1);
}

function shown(value: unknown): string {
  return typeof value === "number" || typeof value === "bigint" ? String(value) : `a value of type ${typeof value}`;
}

function within(field: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw refusal(field, `must be an integer from ${min} to ${max}, not ${shown(value)}`);
}

export function labels(field: string, value: Readonly<Record<string, string>> | undefined): Record<string, string> {
  if (value !== undefined && (typeof value !== "object" || value === null || Array.isArray(value)))
    throw refusal(field, `must be an object of strings, not ${Array.isArray(value) ? "an array" : typeof value}`);
  const pairs = Object.entries(value ?? {});
  return Object.fromEntries(
    pairs.map(([key, label]) => [text(field, key), required(`${field}[${JSON.stringify(key)}]`, label)]),
  );
}

/** Returns the number of an enum's short name. */
export function member<N extends number>(field: string, desc: DescEnum, name: string): N {
  const found = desc.values.find((value) => value.localName === name && value.number !== 0);
  if (found !== undefined) return found.number as N;
  const known = desc.values.filter((value) => value.number !== 0).map((value) => value.localName);
  throw refusal(field, `${JSON.stringify(name)} is none of ${known.join(", ")}`);
}

/** Returns a payload, or nothing for `undefined`. */
export function payload(field: string, value: unknown) {
  return value === undefined ? undefined : { body: { case: "json" as const, value: json(field, value) } };
}

function json(field: string, value: unknown): string {
  return value instanceof JsonText ? text(field, value.text) : encodeJson(value, field);
}
