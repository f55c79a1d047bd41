/** Watches of an instance: the position of a watch, and its continuation after a broken connection. */

import { create } from "@bufbuild/protobuf";

import * as args from "./arguments.js";
import * as convert from "./convert.js";
import { DeadlineExceededError, PerdureError, UnavailableError } from "./errors.js";
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

/** Maximum duration of one stream. Then another stream continues, so a hung server cannot hide entries for longer. */
export const STREAM_MS_MAX = 600_000;

/** Default of `reconnectTimeoutMs`. */
export const RECONNECT_TIMEOUT_MS = 300_000;

/** Number of consecutive failures that are reported as a disconnect. A connection that is restored at once is not. */
export const DISCONNECT_FAILURES = 2;

/** Position of a watch, across all its streams. */
export class WatchPosition {
  ended = false;
  private after: bigint | undefined;

  constructor(
    private readonly instanceId: string,
    afterRevision: number | bigint | undefined,
  ) {
    this.after = afterRevision === undefined ? undefined : args.int64("after_revision", afterRevision);
  }

  /** Returns the request that continues at this position. The first one has no revision if none was given. */
  request(): WatchInstanceRequest {
    const revision = this.after === undefined ? {} : { afterRevision: this.after };
    return create(WatchInstanceRequestSchema, { instanceId: this.instanceId, ...revision });
  }

  /** Returns the event of a message, undefined if it has none. Throws `PerdureError` if a revision is missing. */
  take({ event }: WatchInstanceResponse): WatchEvent | undefined {
    switch (event.case) {
      case "snapshot":
        this.after = event.value.revision;
        return { type: "snapshot", revision: Number(this.after), instance: convert.instanceOf(event.value) };
      case "entry": {
        const { revision } = event.value;
        if (this.after !== undefined && revision !== this.after + 1n)
          // The server promises no gaps. Without this error, code that folds the entries would be wrong from here on.
          throw new PerdureError(`watch of '${this.instanceId}' received revision ${revision} after ${this.after}`);
        this.after = revision;
        return { type: "entry", revision: Number(revision), entry: convert.entryOf(event.value) };
      }
      case "end":
        if (event.value.reason === WatchEndReason.SERVER_DRAINING) return undefined;
        this.ended = true;
        return {
          type: "end",
          revision: Number(event.value.revision),
          reason: convert.watchEndReasonOf(event.value.reason),
        };
      default: // a heartbeat, or an event that this version does not know
        return undefined;
    }
  }
}

/**
 * Returns the events of a watch until its end. `timeoutMs` limits the wait for the first response. Throws
 * `InvalidFieldError` for an invalid argument.
 */
export function watch(
  transport: Transport,
  instanceId: string,
  options: WatchOptions,
  retry: CallRetryPolicy,
  timeoutMs: number,
): AsyncGenerator<WatchEvent, void, undefined> {
  const position = new WatchPosition(args.required("instance_id", instanceId), options.afterRevision);
  const limitMs = options.timeoutMs === undefined ? Infinity : timeLimitOf("timeoutMs", options.timeoutMs);
  const reconnectTimeoutMs =
    options.reconnectTimeoutMs === undefined
      ? RECONNECT_TIMEOUT_MS
      : timeLimitOf("reconnectTimeoutMs", options.reconnectTimeoutMs);
  return events(transport, instanceId, position, { ...options, limitMs, reconnectTimeoutMs }, retry, timeoutMs);
}

type Limits = Omit<WatchOptions, "reconnectTimeoutMs"> & {
  readonly limitMs: number;
  readonly reconnectTimeoutMs: number;
};

async function* events(
  transport: Transport,
  instanceId: string,
  position: WatchPosition,
  { limitMs, reconnectTimeoutMs, signal, onDisconnect, onReconnect }: Limits,
  retry: CallRetryPolicy,
  timeoutMs: number,
): AsyncGenerator<WatchEvent, void, undefined> {
  const whole = new Attempts(NO_RETRIES, limitMs);
  const attempts = new Attempts(retry, Math.min(timeoutMs, whole.leftMs));
  for (;;) {
    let error: PerdureError = new UnavailableError(`watch of '${instanceId}' was interrupted`);
    const streamMs = Math.min(STREAM_MS_MAX, whole.leftMs);
    const stream = transport.stream(InstanceService.method.watchInstance, position.request(), streamMs, signal);
    // Only errors of the stream lead to another stream. An error that the caller throws into the loop ends the watch.
    try {
      for (;;) {
        const step = await next(stream);
        if (step instanceof PerdureError) error = step;
        if (step === undefined || step instanceof PerdureError) break;
        if (attempts.failuresInARow >= DISCONNECT_FAILURES) onReconnect?.();
        attempts.answered();
        const event = position.take(step);
        if (event !== undefined) yield event;
      }
    } finally {
      await stream.return();
    }
    if (position.ended) return;
    // A stream that reached its maximum duration is continued by another one.
    if (error instanceof DeadlineExceededError && whole.leftMs > 0)
      error = new UnavailableError(`watch of '${instanceId}' reached the maximum duration of a stream`);
    const pauseMs = attempts.pauseAfter(error, reconnectTimeoutMs);
    if (pauseMs === undefined) throw error;
    if (pauseMs > whole.leftMs)
      throw new DeadlineExceededError(`instance '${instanceId}' did not end within ${limitMs} ms`);
    if (attempts.failuresInARow === DISCONNECT_FAILURES) onDisconnect?.(error);
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
