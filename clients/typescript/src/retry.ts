/**
 * When a call is sent again: which errors are worth it, after which pause, for how long. No I/O; clock and chance are
 * arguments.
 *
 * Every call is safe to send again: reads change nothing, and every mutating call carries a request id.
 */

import { InvalidFieldError, type PerdureError } from "./errors.js";

/** Ten years. gRPC cannot represent much longer deadlines, so a longer timeout is the same as none. */
export const TIMEOUT_MS_MAX = 10 * 366 * 86_400_000;

/** The longest pause between two sendings, whatever the settings or the server ask for. A timer of Node takes 24 days. */
export const PAUSE_MS_MAX = 86_400_000;

/** Maximum growth of the pause from one failure to the next. */
export const MULTIPLIER_MAX = 1_000;

/** Returns a time limit, `Infinity` for one of more than `TIMEOUT_MS_MAX`. Throws `InvalidFieldError`. */
export function timeLimitOf(field: string, value: unknown): number {
  if (typeof value !== "number" || !(value > 0))
    throw invalid(field, `must be more than 0 milliseconds (Infinity for no limit), not ${shown(value)}`);
  return value > TIMEOUT_MS_MAX ? Infinity : value;
}

/** Returns the settings with the default for every absent one. Throws `InvalidFieldError` for what cannot work. */
export function retriesOf(given: Partial<CallRetryPolicy> | undefined): CallRetryPolicy {
  const initialBackoffMs = given?.initialBackoffMs ?? DEFAULT_RETRIES.initialBackoffMs;
  const maxBackoffMs = given?.maxBackoffMs ?? DEFAULT_RETRIES.maxBackoffMs;
  const multiplier = given?.multiplier ?? DEFAULT_RETRIES.multiplier;
  const maxAttempts = given?.maxAttempts ?? DEFAULT_RETRIES.maxAttempts;
  for (const [field, value] of Object.entries({ initialBackoffMs, maxBackoffMs }))
    if (timeLimitOf(`retries.${field}`, value) === Infinity)
      throw invalid(`retries.${field}`, `must be at most ${TIMEOUT_MS_MAX} milliseconds, not ${value}`);
  if (typeof multiplier !== "number" || !(multiplier >= 1 && multiplier <= MULTIPLIER_MAX))
    throw invalid("retries.multiplier", `must be a number from 1 to ${MULTIPLIER_MAX}, not ${shown(multiplier)}`);
  if (!Number.isInteger(maxAttempts) || maxAttempts < 0)
    throw invalid("retries.maxAttempts", `must be an integer of at least 0, not ${shown(maxAttempts)}`);
  return { initialBackoffMs, maxBackoffMs, multiplier, maxAttempts };
}

function invalid(field: string, description: string): InvalidFieldError {
  return new InvalidFieldError(`${field}: ${description}`, { violations: [{ field, description }] });
}

function shown(value: unknown): string {
  return typeof value === "number" ? String(value) : value === null ? "null" : `a value of type ${typeof value}`;
}

/** How a client sends calls again that failed for a moment's reason. */
export interface CallRetryPolicy {
  /** The longest first pause, in ms. */
  readonly initialBackoffMs: number;
  /** The longest pause, in ms. */
  readonly maxBackoffMs: number;
  /** How much longer each pause may be than the one before. */
  readonly multiplier: number;
  /** How often a call is sent at most; 0 means that only its timeout bounds it. */
  readonly maxAttempts: number;
}

/**
 * The pause after n failures is `initialBackoffMs * multiplier^(n-1)`, at most `maxBackoffMs`, or what the server asks for where that
 * is more; chance shortens it by up to a half so that clients do not come back in step.
 */
export const DEFAULT_RETRIES: CallRetryPolicy = { initialBackoffMs: 100, maxBackoffMs: 5_000, multiplier: 2, maxAttempts: 0 };

/** Every call is sent once. */
export const NO_RETRIES: CallRetryPolicy = { ...DEFAULT_RETRIES, maxAttempts: 1 };

/** Where time and chance come from. */
export interface Nature {
  /** Milliseconds of a clock that only goes forward. */
  readonly nowMs: () => number;
  /** A number from 0 to 1. */
  readonly chance: () => number;
}

export const NATURE: Nature = { nowMs: () => performance.now(), chance: () => Math.random() };

/** The sendings of one call, or the connections of one watch. */
export class Attempts {
  private failures = 0;
  private deadlineMs: number;

  constructor(
    private readonly retries: CallRetryPolicy,
    timeoutMs: number,
    private readonly nature: Nature = NATURE,
  ) {
    this.deadlineMs = nature.nowMs() + timeoutMs;
  }

  /** How long it may still take; never negative. */
  get leftMs(): number {
    return Math.max(0, this.deadlineMs - this.nature.nowMs());
  }

  /** Notes that the server answered: failures from now on are counted anew, and bounded by an outage's length. */
  answered(): void {
    this.failures = 0;
    this.deadlineMs = Infinity;
  }

  /**
   * Returns the ms to wait before the next sending, or undefined where `error` is the answer. `outageMs` bounds the
   * failures in a row that follow an answer, from the first of them.
   */
  pauseAfter(error: PerdureError, outageMs = Infinity): number | undefined {
    this.failures++;
    if (!error.retryable || this.failures === this.retries.maxAttempts) return undefined;
    if (this.failures === 1) this.deadlineMs = Math.min(this.deadlineMs, this.nature.nowMs() + outageMs);
    const { initialBackoffMs, maxBackoffMs, multiplier } = this.retries;
    // Bounded before the power is taken: a watch may fail for days.
    const ceiling = Math.min(maxBackoffMs, PAUSE_MS_MAX, initialBackoffMs * multiplier ** Math.min(this.failures - 1, 32));
    const pauseMs = Math.max(
      ceiling * (1 - this.nature.chance() / 2),
      Math.min(error.retryAfterMs ?? 0, PAUSE_MS_MAX),
    );
    return pauseMs < this.leftMs ? pauseMs : undefined;
  }
}
