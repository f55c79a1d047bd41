/**
 * Calls over gRPC: unary calls with retries, and streams. Takes and returns messages. A failed call rejects with a
 * `PerdureError`, an aborted call with the reason of its signal.
 */

import {
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  Client as Channel,
  Metadata,
  type ChannelOptions,
  type ClientUnaryCall,
  type ServiceError,
} from "@grpc/grpc-js";

import { channelOptions } from "./connection.js";
import { DeadlineExceededError, UnavailableError } from "./errors.js";
import { Attempts, timeLimitOf, type CallRetryPolicy } from "./retry.js";
import { errorOf } from "./status.js";
import { credentialsOf, type TlsOptions } from "./tls.js";
import { IDLE_MS, WatchConnections } from "./watch-connections.js";

/** Options of every method. */
export interface CallOptions {
  /**
   * Limits the call, including retries, in milliseconds. Default: the client's `timeoutMs`. `Infinity`, or more than ten
   * years, removes the limit. Other values that are not greater than 0 are rejected with `InvalidFieldError`.
   */
  readonly timeoutMs?: number | undefined;
  /** Aborts the call: it rejects with the signal's reason. A mutating call may or may not have taken effect. */
  readonly signal?: AbortSignal | undefined;
}

export class Transport {
  private channel: Channel | undefined;
  private closed = false;
  private readonly watchConnections = new WatchConnections(() => this.connect({ "grpc.client_idle_timeout_ms": IDLE_MS }));
  private readonly live = new Set<{ cancel(): void }>();

  constructor(
    private readonly target: string,
    private readonly tls: TlsOptions | undefined,
    private readonly metadata: Readonly<Record<string, string>>,
    private readonly retry: CallRetryPolicy,
    private readonly timeoutMs: number,
  ) {}

  /**
   * Makes a call and retries it. Rejects with the last error if it cannot be retried or if the time limit does not allow
   * another attempt.
   */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: CallOptions,
    { requestId = "", retry = this.retry }: { requestId?: string; retry?: CallRetryPolicy } = {},
  ): Promise<MessageShape<O>> {
    const limitMs = options.timeoutMs === undefined ? this.timeoutMs : timeLimitOf("timeoutMs", options.timeoutMs);
    const attempts = new Attempts(retry, limitMs);
    for (;;) {
      try {
        return await this.send(method, request, attempts.leftMs, options.signal);
      } catch (failed) {
        if (!isServiceError(failed)) throw failed;
        let error = errorOf(failed, requestId);
        // A deadline of the server does not end a call without a time limit.
        if (limitMs === Infinity && error instanceof DeadlineExceededError)
          error = new UnavailableError(error.message, { requestId, cause: failed });
        const pauseMs = attempts.pauseAfter(error);
        if (pauseMs === undefined) throw error;
        await pause(pauseMs, options.signal);
      }
    }
  }

  private send<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<MessageShape<O>> {
    const channel = this.open();
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason as Error);
        return;
      }
      let call: ClientUnaryCall | undefined;
      const abort = () => {
        reject(signal?.reason as Error);
        call?.cancel();
      };
      signal?.addEventListener("abort", abort, { once: true });
      call = channel.makeUnaryRequest(
        pathOf(method),
        serializer(method.input),
        deserializer(method.output),
        request,
        this.callMetadata(),
        { deadline: deadlineIn(timeoutMs) },
        (failed, response) => {
          signal?.removeEventListener("abort", abort);
          if (call !== undefined) this.live.delete(call);
          if (failed !== null) reject(failed);
          else resolve(response as MessageShape<O>);
        },
      );
      this.live.add(call);
    });
  }

  /**
   * Yields the messages of a stream, over a watch connection. Leaving the loop cancels the stream, and so does the
   * signal.
   */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    signal?.throwIfAborted();
    this.checkOpen();
    const connection = this.watchConnections.acquire();
    try {
      yield* this.messages(connection.channel, method, request, timeoutMs, signal);
    } finally {
      this.watchConnections.release(connection);
    }
  }

  private async *messages<I extends DescMessage, O extends DescMessage>(
    channel: Channel,
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const stream = channel.makeServerStreamRequest(
      pathOf(method),
      serializer(method.input),
      deserializer(method.output),
      request,
      this.callMetadata(),
      { deadline: deadlineIn(timeoutMs) },
    );
    const abort = () => stream.cancel();
    signal?.addEventListener("abort", abort, { once: true });
    this.live.add(stream);
    // A cancelled stream emits an error after the loop has ended. Without a listener the error would end the process.
    stream.on("error", () => undefined);
    try {
      for await (const message of stream) yield message as MessageShape<O>;
    } catch (failed) {
      signal?.throwIfAborted();
      throw isServiceError(failed) ? errorOf(failed) : failed;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.live.delete(stream);
      stream.cancel();
    }
  }

  /** Cancels calls in progress. They and all later calls reject. */
  close(): void {
    this.closed = true;
    for (const call of this.live) call.cancel();
    this.live.clear();
    this.channel?.close();
    this.channel = undefined;
    this.watchConnections.close();
  }

  /** Number of watches on each open watch connection, for tests. */
  get watches(): readonly number[] {
    return this.watchConnections.watches;
  }

  private open(): Channel {
    this.checkOpen();
    this.channel ??= this.connect({});
    return this.channel;
  }

  private checkOpen(): void {
    if (this.closed) throw new Error("the client is closed");
  }

  private connect(options: ChannelOptions): Channel {
    return new Channel(this.target, credentialsOf(this.tls), { ...channelOptions(this.target, this.tls), ...options });
  }

  private callMetadata(): Metadata {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(this.metadata)) metadata.set(key, value);
    return metadata;
  }
}

/** Resolves after a delay. Rejects with the signal's reason if the signal is aborted before. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

function deadlineIn(ms: number): number {
  return Date.now() + ms; // Infinity removes the deadline
}

function pathOf(method: { readonly name: string; readonly parent: { readonly typeName: string } }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function serializer<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function deserializer<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes);
}

function isServiceError(value: unknown): value is ServiceError {
  return value instanceof Error && "code" in value && typeof value.code === "number" && "details" in value;
}
