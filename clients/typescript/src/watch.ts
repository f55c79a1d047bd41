/** Following an instance across broken connections: where a watch stands, and how it goes on. */

import { create } from "@bufbuild/protobuf";

import * as convert from "./convert.js";
import { DeadlineExceededError, PerdureError, UnavailableError } from "./errors.js";
import * as fields from "./fields.js";
import {
  InstanceService,
  WatchEndReason,
  WatchInstanceRequestSchema,
  type WatchInstanceRequest,
  type WatchInstanceResponse,
} from "./gen/perdure/v1/instance_service_pb.js";
import { Attempts, NO_RETRIES, timeLimitOf, type CallRetryPolicy } from "./retry.js";
import { pause, type Transport } from "./transport.js";
import type { WatchEvent, WatchOptions } from "./types.js";

/** How long one stream of a watch lives before the next takes over: a bound on what a hung server can hide. */
export const STREAM_MS_MAX = 600_000;
const OUTAGE_MS = 300_000;

/** Where one watch stands, across all its streams. */
export class Watching {
  ended = false;
  private after: bigint | undefined;

  constructor(
    private readonly instanceId: string,
    afterRevision: number | bigint | undefined,
  ) {
    this.after = afterRevision === undefined ? undefined : fields.int64("after_revision", afterRevision);
  }

  /** What to send to go on from here: at first without a revision, if none was given. */
  request(): WatchInstanceRequest {
    const revision = this.after === undefined ? {} : { afterRevision: this.after };
    return create(WatchInstanceRequestSchema, { instanceId: this.instanceId, ...revision });
  }

  /** Returns what the caller gets to see of a message, if anything. Throws `PerdureError` at a gap. */
  take({ event }: WatchInstanceResponse): WatchEvent | undefined {
    switch (event.case) {
      case "snapshot":
        this.after = event.value.revision;
        return { type: "snapshot", revision: Number(this.after), instance: convert.instanceOf(event.value) };
      case "entry": {
        const { revision } = event.value;
        if (this.after !== undefined && revision !== this.after + 1n)
          // The server promises better; told aloud, because who folds the entries would be wrong from here on.
          throw new PerdureError(`the watch of ${this.instanceId} gave revision ${revision} after ${this.after}`);
        this.after = revision;
        return { type: "entry", revision: Number(revision), entry: convert.entryOf(event.value) };
      }
      case "end":
        if (event.value.reason === WatchEndReason.SERVER_DRAINING) return undefined;
        if (event.value.reason === WatchEndReason.TOO_SLOW) return undefined;
        this.ended = true;
        return {
          type: "end",
          revision: Number(event.value.revision),
          reason: convert.watchEndReasonOf(event.value.reason),
        };
      default: // a heartbeat, or something new
        return undefined;
    }
  }
}

/**
 * Returns a watch's events until its end. `timeoutMs` limits the wait for the first response. Throws `InvalidFieldError`.
 */
export function watch(
  transport: Transport,
  instanceId: string,
  options: WatchOptions,
  retries: CallRetryPolicy,
  timeoutMs: number,
): AsyncGenerator<WatchEvent, void, undefined> {
  const watching = new Watching(fields.required("instance_id", instanceId), options.afterRevision);
  const limitMs = options.timeoutMs === undefined ? Infinity : timeLimitOf("timeoutMs", options.timeoutMs);
  const outageMs = options.outageMs === undefined ? OUTAGE_MS : timeLimitOf("outageMs", options.outageMs);
  return events(transport, instanceId, watching, { limitMs, outageMs, signal: options.signal }, retries, timeoutMs);
}

async function* events(
  transport: Transport,
  instanceId: string,
  watching: Watching,
  { limitMs, outageMs, signal }: { limitMs: number; outageMs: number; signal: AbortSignal | undefined },
  retries: CallRetryPolicy,
  timeoutMs: number,
): AsyncGenerator<WatchEvent, void, undefined> {
  const whole = new Attempts(NO_RETRIES, limitMs);
  const attempts = new Attempts(retries, Math.min(timeoutMs, whole.leftMs));
  for (;;) {
    let error: PerdureError = new UnavailableError(`the watch of ${instanceId} broke off`);
    const streamMs = Math.min(STREAM_MS_MAX, whole.leftMs);
    const stream = transport.stream(InstanceService.method.watchInstance, watching.request(), streamMs, signal);
    // Only the stream's own errors lead to another one; what the caller throws into the loop passes through.
    try {
      for (;;) {
        const step = await next(stream);
        if (step instanceof PerdureError) error = step;
        if (step === undefined || step instanceof PerdureError) break;
        attempts.answered();
        const event = watching.take(step);
        if (event !== undefined) yield event;
      }
    } finally {
      await stream.return();
    }
    if (watching.ended) return;
    // A stream that reached its own bound is only due for renewal.
    if (error instanceof DeadlineExceededError && whole.leftMs > 0)
      error = new UnavailableError("the stream reached its time bound");
    const pauseMs = attempts.pauseAfter(error, outageMs);
    if (pauseMs === undefined) throw error;
    if (pauseMs > whole.leftMs)
      throw new DeadlineExceededError(`${instanceId} did not end within ${limitMs} ms`);
    await pause(pauseMs, signal);
  }
}

async function next<T>(stream: AsyncGenerator<T, void, undefined>): Promise<T | PerdureError | undefined> {
  try {
    const step = await stream.next();
    return step.done ? undefined : step.value;
  } catch (failed) {
    if (failed instanceof PerdureError) return failed;
    throw failed;
  }
}
