import assert from "node:assert/strict";
import { test } from "node:test";

import { Attempts, PAUSE_MS_MAX, retryPolicyOf, timeLimitOf, TIMEOUT_MS_MAX } from "#dist/retry";
import { Client, InvalidFieldError, UnavailableError } from "perdure";

const INVALID: unknown[] = [0, -0, -1, -Infinity, NaN, null, "30s", 5n, true, {}];

function rejects(field: string) {
  return (error: unknown) => {
    assert.ok(error instanceof InvalidFieldError, String(error));
    assert.deepEqual(error.violations.map((violation) => violation.field), [field]);
    return true;
  };
}

test("an invalid time limit is rejected", async () => {
  const client = new Client("127.0.0.1:1");
  for (const value of INVALID) {
    const timeoutMs = value as number;
    if (value !== null) assert.throws(() => new Client("127.0.0.1:1", { timeoutMs }), rejects("timeoutMs"));
    await assert.rejects(client.getInstance("i1", { timeoutMs }), rejects("timeoutMs"));
    await assert.rejects(client.checkHealth("", { timeoutMs }), rejects("timeoutMs"));
    await assert.rejects(client.waitForEnd("i1", { timeoutMs }), rejects("timeoutMs"));
    await assert.rejects(client.listInstances({ timeoutMs }).next(), rejects("timeoutMs"));
    assert.throws(() => client.watchInstance("i1", { timeoutMs }), rejects("timeoutMs"));
    assert.throws(() => client.watchInstance("i1", { reconnectTimeoutMs: timeoutMs }), rejects("reconnectTimeoutMs"));
  }
  client.close();
});

test("an infinite time limit does not end a call", () => {
  for (const value of [Infinity, 1e300, 2 ** 63, Number.MAX_VALUE, TIMEOUT_MS_MAX + 1])
    assert.equal(timeLimitOf("timeoutMs", value), Infinity);
  assert.equal(timeLimitOf("timeoutMs", TIMEOUT_MS_MAX), TIMEOUT_MS_MAX);
  assert.equal(timeLimitOf("timeoutMs", 0.5), 0.5);
});

test("an invalid retry policy is rejected", () => {
  for (const value of [0, -1, NaN, Infinity, 1e300]) {
    assert.throws(() => retryPolicyOf({ initialBackoffMs: value }), rejects("retry.initialBackoffMs"));
    assert.throws(() => retryPolicyOf({ maxBackoffMs: value }), rejects("retry.maxBackoffMs"));
  }
  for (const multiplier of [0, 0.5, NaN, Infinity, "2" as never])
    assert.throws(() => retryPolicyOf({ multiplier }), rejects("retry.multiplier"));
  for (const maxAttempts of [-1, 1.5, NaN, Infinity])
    assert.throws(() => new Client("127.0.0.1:1", { retry: { maxAttempts } }), rejects("retry.maxAttempts"));
  assert.equal(retryPolicyOf({ initialBackoffMs: undefined as never }).initialBackoffMs, 100);
});

test("a delay never exceeds the maximum of a timer", () => {
  const attempts = new Attempts(retryPolicyOf({ maxBackoffMs: TIMEOUT_MS_MAX, multiplier: 1_000 }), Infinity);
  for (let failure = 0; failure < 100; failure++) {
    const pauseMs = attempts.pauseAfter(new UnavailableError("away", { retryAfterMs: 1e15 }));
    assert.ok(pauseMs !== undefined && pauseMs > 0 && pauseMs <= PAUSE_MS_MAX, String(pauseMs));
  }
});

test("an argument of the wrong type is rejected", async () => {
  const client = new Client("127.0.0.1:1");
  const odd = <T>(value: unknown) => value as T;
  const calls: [string, () => Promise<unknown>][] = [
    ["workflow", () => client.startInstance(odd(undefined))],
    ["workflow", () => client.startInstance(odd(5))],
    ["opts.version", () => client.startInstance("order", {}, { version: 2 ** 32 })],
    ["opts.version", () => client.startInstance("order", {}, { version: odd(1n) })],
    ["opts.version", () => client.startInstance("order", {}, { version: NaN })],
    ["opts.instance_id", () => client.startInstance("order", {}, { instanceId: odd(null) })],
    ["opts.labels", () => client.startInstance("order", {}, { labels: odd(["a"]) })],
    ["opts.labels", () => client.startInstance("order", {}, { labels: odd("a") })],
    ['opts.labels["a"]', () => client.startInstance("order", {}, { labels: { a: odd(1) } })],
    ['opts.labels["a"]', () => client.startInstance("order", {}, { labels: { a: odd(undefined) } })],
    ["instance_id", () => client.getInstance(odd(undefined))],
    ["instance_id", () => client.getInstance(odd(null))],
    ["event", () => client.resume("i1", odd(undefined))],
    ["opts.buffer", () => client.resume("i1", "a", {}, { buffer: odd("yes") })],
    ["payload", () => client.resume("i1", "a", Symbol("a"))],
    ["payload", () => client.resume("i1", "a", () => 1)],
    ["payload", () => client.resume("i1", "a", new Map())],
    ["payload", () => client.resume("i1", "a", new Uint8Array(1))],
    ["payload.a", () => client.resume("i1", "a", { a: Infinity })],
    ["delay_ms", () => client.scheduleResume("i1", "a", odd(undefined))],
    ["delay_ms", () => client.scheduleResume("i1", "a", NaN)],
    ["delay_ms", () => client.scheduleResume("i1", "a", 1e300)],
    ["delay_ms", () => client.scheduleResume("i1", "a", odd("1h"))],
    ["reference", () => client.getTimer(odd(undefined))],
    ["version", () => client.getWorkflow("order", -1)],
    ["page_size", async () => client.listInstances({ pageSize: 2 ** 31 }).next()],
    ["states", async () => client.listInstances({ states: odd("WAITING") }).next()],
    ["instance_id", async () => client.listTimers(odd(null)).next()],
    ["after_revision", async () => client.watchInstance("i1", { afterRevision: odd(null) }).next()],
    ["instance_id", async () => client.watchInstance(odd(undefined)).next()],
  ];
  for (const [field, call] of calls) await assert.rejects(call, rejects(field));
  const cycle: Record<string, unknown> = {};
  cycle["a"] = cycle;
  await assert.rejects(client.resume("i1", "a", cycle), /nested more than 100 levels deep/);
  client.close();
});
