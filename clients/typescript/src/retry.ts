/**
 * Retry rules: the errors to retry, the delay before each retry, and the time limit. No I/O. The clock and the random
 * numbers are arguments.
 *
 * Every call can be retried safely: reads change nothing, and every mutating call carries a request ID.
 */

import { InvalidFieldError, type PerdureError } from "./errors.js";

/** Ten years. gRPC cannot represent much longer deadlines, so a longer timeout is the same as none. */
export const TIMEOUT_MS_MAX = 10 * 366 * 86_400_000;

/** Maximum delay before a retry, whatever the policy or the server asks for. Node.js limits timers to 24 days. */
export const PAUSE_MS_MAX = 86_400_000;

/** Maximum `multiplier` of a policy. */
export const MULTIPLIER_MAX = 1_000;

/** Retries of calls that failed for a temporary reason. */
export interface CallRetryPolicy {
  /** Delay before the first retry, in milliseconds. Default 100. */
  readonly initialBackoffMs: number;
  /** Maximum delay before a retry, in milliseconds. Default 5,000. */
  readonly maxBackoffMs: number;
  /** Growth of the delay from one retry to the next, from 1 to 1,000. Default 2. */
  readonly multiplier: number;
  /** Maximum number of attempts, including the first. Default 0: only the call's timeout ends the retries. */
  readonly maxAttempts: number;
}

/**
 * The default policy.
 *
 * The delay after n failures is `initialBackoffMs * multiplier^(n-1)`, but at most `maxBackoffMs`. Random jitter shortens
 * it by up to half. If the server asks for a longer delay, the client waits for that long.
 */
export const DEFAULT_RETRIES: CallRetryPolicy = {
  initialBackoffMs: 100,
  maxBackoffMs: 5_000,
  multiplier: 2,
  maxAttempts: 0,
};

/** A policy that never retries. */
export const NO_RETRIES: CallRetryPolicy = { ...DEFAULT_RETRIES, maxAttempts: 1 };

/** Returns a policy with the defaults filled in. Throws `InvalidFieldError` for an invalid value. */
export function retryPolicyOf(given: Partial<CallRetryPolicy> | undefined): CallRetryPolicy {
  const initialBackoffMs = given?.initialBackoffMs ?? DEFAULT_RETRIES.initialBackoffMs;
  const maxBackoffMs = given?.maxBackoffMs ?? DEFAULT_RETRIES.maxBackoffMs;
  const multiplier = given?.multiplier ?? DEFAULT_RETRIES.multiplier;
  const maxAttempts = given?.maxAttempts ?? DEFAULT_RETRIES.maxAttempts;
  for (const [field, value] of Object.entries({ initialBackoffMs, maxBackoffMs }))
    if (timeLimitOf(`retry.${field}`, value) === Infinity)
      throw InvalidFieldError.of(`retry.${field}`, `must be at most ${TIMEOUT_MS_MAX} milliseconds, not ${value}`);
  if (typeof multiplier !== "number" || !(multiplier >= 1 && multiplier <= MULTIPLIER_MAX))
    throw InvalidFieldError.of(
      "retry.multiplier",
      `must be a number from 1 to ${MULTIPLIER_MAX}, not ${shown(multiplier)}`,
    );
  if (!Number.isInteger(maxAttempts) || maxAttempts < 0)
    throw InvalidFieldError.of("retry.maxAttempts", `must be an integer of at least 0, not ${shown(maxAttempts)}`);
  return { initialBackoffMs, maxBackoffMs, multiplier, maxAttempts };
}

/** Returns a time limit, `Infinity` for more than `TIMEOUT_MS_MAX`. Throws `InvalidFieldError` for an invalid value. */
export function timeLimitOf(field: string, value: unknown): number {
  if (typeof value !== "number" || !(value > 0))
    throw InvalidFieldError.of(
      field,
      `must be more than 0 milliseconds, not ${shown(value)}`,
      "pass Infinity for no limit",
    );
  return value > TIMEOUT_MS_MAX ? Infinity : value;
}

function shown(value: unknown): string {
  return typeof value === "number" ? String(value) : value === null ? "null" : `a value of type ${typeof value}`;
}

/** Sources of time and of random numbers. */
export interface Sources {
  /** Milliseconds of a monotonic clock. */
  readonly nowMs: () => number;
  /** A random number from 0 to 1. */
  readonly random: () => number;
}

export const SYSTEM: Sources = { nowMs: () => performance.now(), random: () => Math.random() };

/** Attempts of one call, or connections of one watch. */
export class Attempts {
  private failures = 0;
  private deadlineMs: number;

  constructor(
    private readonly policy: CallRetryPolicy,
    timeoutMs: number,
    private readonly sources: Sources = SYSTEM,
  ) {
    this.deadlineMs = sources.nowMs() + timeoutMs;
  }

  /** Time left in milliseconds, never negative. */
  get leftMs(): number {
    return Math.max(0, this.deadlineMs - this.sources.nowMs());
  }

  /** Number of failures since the last response. */
  get failuresInARow(): number {
    return this.failures;
  }

  /** Records a response. It resets the number of failures and removes the time limit. */
  answered(): void {
    this.failures = 0;
    this.deadlineMs = Infinity;
  }

  /**
   * Records a failure. Returns the delay before the next attempt in milliseconds, or undefined if `error` is final.
   * `reconnectTimeoutMs` limits consecutive failures after a response, from the first of them.
   */
  pauseAfter(error: PerdureError, reconnectTimeoutMs = Infinity): number | undefined {
    this.failures++;
    if (!error.retryable || this.failures === this.policy.maxAttempts) return undefined;
    if (this.failures === 1)
      this.deadlineMs = Math.min(this.deadlineMs, this.sources.nowMs() + reconnectTimeoutMs);
    const { initialBackoffMs, maxBackoffMs, multiplier } = this.policy;
    // The exponent is limited because a watch can fail for days.
    const growth = multiplier ** Math.min(this.failures - 1, 32);
    const ceiling = Math.min(maxBackoffMs, PAUSE_MS_MAX, initialBackoffMs * growth);
    const pauseMs = Math.max(
      ceiling * (1 - this.sources.random() / 2),
      Math.min(error.retryAfterMs ?? 0, PAUSE_MS_MAX),
    );
    return pauseMs < this.leftMs ? pauseMs : undefined;
  }
}
