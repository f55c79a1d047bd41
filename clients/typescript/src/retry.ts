/**
 * When a call is sent again: which errors are worth it, after which pause, for how long. No I/O; clock and chance are
 * arguments.
 *
 * Every call is safe to send again: reads change nothing, and every mutating call carries a request id.
 */

import type { PerdureError } from "./errors.js";

/** How a client sends calls again that failed for a moment's reason. */
export interface Retries {
  /** The longest first pause, in ms. */
  readonly initialMs: number;
  /** The longest pause, in ms. */
  readonly maxMs: number;
  /** How much longer each pause may be than the one before. */
  readonly multiplier: number;
  /** How often a call is sent at most; 0 means that only its timeout bounds it. */
  readonly attemptsMax: number;
}

/**
 * The pause after n failures is `initialMs * multiplier^(n-1)`, at most `maxMs`, or what the server asks for where that
 * is more; chance shortens it by up to a half so that clients do not come back in step.
 */
export const DEFAULT_RETRIES: Retries = { initialMs: 100, maxMs: 5_000, multiplier: 2, attemptsMax: 0 };

/** Every call is sent once. */
export const NO_RETRIES: Retries = { ...DEFAULT_RETRIES, attemptsMax: 1 };

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
    private readonly retries: Retries,
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
    if (!error.transient || this.failures === this.retries.attemptsMax) return undefined;
    if (this.failures === 1) this.deadlineMs = Math.min(this.deadlineMs, this.nature.nowMs() + outageMs);
    const { initialMs, maxMs, multiplier } = this.retries;
    // Bounded before the power is taken: a watch may fail for days.
    const ceiling = Math.min(maxMs, initialMs * multiplier ** Math.min(this.failures - 1, 32));
    const pauseMs = Math.max(ceiling * (1 - this.nature.chance() / 2), error.retryAfterMs ?? 0);
    return pauseMs < this.leftMs ? pauseMs : undefined;
  }
}
