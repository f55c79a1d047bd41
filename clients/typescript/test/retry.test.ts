import assert from "node:assert/strict";
import { test } from "node:test";

import { Attempts, DEFAULT_RETRIES, NO_RETRIES } from "#dist/retry";
import { InvalidFieldError, OverloadedError, PayloadTooLargeError, UnavailableError } from "perdure";

class FakeSources {
  now = 0;
  constructor(private readonly jitter = 0) {}
  readonly nowMs = () => this.now;
  readonly random = () => this.jitter;
}

const away = new UnavailableError("connection refused");

test("delays double up to the maximum, and jitter halves them at most", () => {
  for (const [jitter, share] of [[0, 1], [1, 0.5]] as const) {
    const attempts = new Attempts(DEFAULT_RETRIES, 60_000, new FakeSources(jitter));
    const pauses = Array.from({ length: 8 }, () => attempts.pauseAfter(away));
    assert.deepEqual(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000].map((ms) => ms * share));
  }
});

test("a longer delay that the server asks for is used", () => {
  const attempts = new Attempts(DEFAULT_RETRIES, 60_000, new FakeSources());
  assert.equal(attempts.pauseAfter(new OverloadedError("busy", { retryAfterMs: 250 })), 250);
  assert.equal(attempts.pauseAfter(new OverloadedError("busy", { retryAfterMs: 10 })), 200);
});

test("only temporary errors are retried", () => {
  for (const error of [new InvalidFieldError("no"), new PayloadTooLargeError("too large")])
    assert.equal(new Attempts(DEFAULT_RETRIES, 60_000, new FakeSources()).pauseAfter(error), undefined);
  assert.equal(new Attempts(NO_RETRIES, 60_000, new FakeSources()).pauseAfter(away), undefined);
});

test("a call is not retried if the delay exceeds its deadline", () => {
  const sources = new FakeSources();
  const attempts = new Attempts(DEFAULT_RETRIES, 1_000, sources);
  sources.now = 950;
  assert.equal(attempts.leftMs, 50);
  assert.equal(attempts.pauseAfter(away), undefined);
});

test("the reconnect timeout starts at the first failure after a response", () => {
  const sources = new FakeSources();
  const attempts = new Attempts(DEFAULT_RETRIES, 1_000, sources);
  attempts.answered();
  sources.now = 1_000_000;
  assert.equal(attempts.pauseAfter(away, 10_000), 100);
  sources.now += 9_950;
  assert.equal(attempts.pauseAfter(away, 10_000), undefined);
  attempts.answered();
  assert.equal(attempts.pauseAfter(away, 10_000), 100);
});
