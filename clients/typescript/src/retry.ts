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
export function retriesOf(given: Partial<Retries> | undefined): Retries {
  const initialMs = given?.initialMs ?? DEFAULT_RETRIES.initialMs;
  const maxMs = given?.maxMs ?? DEFAULT_RETRIES.maxMs;
  const multiplier = given?.multiplier ?? DEFAULT_RETRIES.multiplier;
  const attemptsMax = given?.attemptsMax ?? DEFAULT_RETRIES.attemptsMax;
  for (const [field, value] of Object.entries({ initialMs, maxMs }))
    if (timeLimitOf(`retries.${field}`, value) === Infinity)
      throw invalid(`retries.${field}`, `must be at most ${TIMEOUT_MS_MAX} milliseconds, not ${value}`);
  if (typeof multiplier !== "number" || !(multiplier >= 1 && multiplier <= MULTIPLIER_MAX))
    throw invalid("retries.multiplier", `must be a number from 1 to ${MULTIPLIER_MAX}, not ${shown(multiplier)}`);
  if (!Number.isInteger(attemptsMax) || attemptsMax < 0)
    throw invalid("retries.attemptsMax", `must be an integer of at least 0, not ${shown(attemptsMax)}`);
  return { initialMs, maxMs, multiplier, attemptsMax };
}

function invalid(field: string, description: string): InvalidFieldError {
  return new InvalidFieldError(`${field}: ${description}`, { violations: [{ field, description }] });
}

function shown(value: unknown): string {
  return typeof value === "number" ? String(value) : value === null ? "null" : `a value of type ${typeof value}`;
}

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
    const ceiling = Math.min(maxMs, PAUSE_MS_MAX, initialMs * multiplier ** Math.min(this.failures - 1, 32));
    const pauseMs = Math.max(
      ceiling * (1 - this.nature.chance() / 2),
      Math.min(error.retryAfterMs ?? 0, PAUSE_MS_MAX),
    );
    return pauseMs < this.leftMs ? pauseMs : undefined;
  }
}
