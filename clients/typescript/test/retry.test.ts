import assert from "node:assert/strict";
import { test } from "node:test";

import { Attempts, DEFAULT_RETRIES, NO_RETRIES } from "#dist/retry";
import { InvalidFieldError, OverloadedError, PayloadTooLargeError, UnavailableError } from "perdure";

class Hours {
  now = 0;
  constructor(private readonly luck = 0) {}
  readonly nowMs = () => this.now;
  readonly chance = () => this.luck;
}

const away = new UnavailableError("nobody there");

test("pauses double up to their bound, and chance shortens them by at most a half", () => {
  for (const [luck, share] of [[0, 1], [1, 0.5]] as const) {
    const attempts = new Attempts(DEFAULT_RETRIES, 60_000, new Hours(luck));
    const pauses = Array.from({ length: 8 }, () => attempts.pauseAfter(away));
    assert.deepEqual(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000].map((ms) => ms * share));
  }
});

test("the server's wish counts where it is longer", () => {
  const attempts = new Attempts(DEFAULT_RETRIES, 60_000, new Hours());
  assert.equal(attempts.pauseAfter(new OverloadedError("busy", { retryAfterMs: 250 })), 250);
  assert.equal(attempts.pauseAfter(new OverloadedError("busy", { retryAfterMs: 10 })), 200);
});

test("only what may pass by itself is sent again", () => {
  for (const error of [new InvalidFieldError("no"), new PayloadTooLargeError("too large")])
    assert.equal(new Attempts(DEFAULT_RETRIES, 60_000, new Hours()).pauseAfter(error), undefined);
  assert.equal(new Attempts(NO_RETRIES, 60_000, new Hours()).pauseAfter(away), undefined);
});

test("a pause that the deadline does not allow is not begun", () => {
  const hours = new Hours();
  const attempts = new Attempts(DEFAULT_RETRIES, 1_000, hours);
  hours.now = 950;
  assert.equal(attempts.leftMs, 50);
  assert.equal(attempts.pauseAfter(away), undefined);
});

test("an outage is counted from its first failure, and an answer ends it", () => {
  const hours = new Hours();
  const attempts = new Attempts(DEFAULT_RETRIES, 1_000, hours);
  attempts.answered();
  hours.now = 1_000_000;
  assert.equal(attempts.pauseAfter(away, 10_000), 100);
  hours.now += 9_950;
  assert.equal(attempts.pauseAfter(away, 10_000), undefined);
  attempts.answered();
  assert.equal(attempts.pauseAfter(away, 10_000), 100);
});
