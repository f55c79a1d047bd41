/** The `Client` class. Each method builds a message, sends it, and converts the response to plain values. */

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import * as args from "./arguments.js";
import { DEFAULT_TARGET } from "./connection.js";
import * as convert from "./convert.js";
import { DeadlineExceededError } from "./errors.js";
import type { HistoryEntry } from "./facts.js";
import { Health as HealthService, HealthCheckRequestSchema } from "./gen/grpc/health/v1/health_pb.js";
import { HealthCheckResponse_ServingStatusSchema } from "./gen/grpc/health/v1/health_pb.js";
import * as instances from "./gen/perdure/v1/instance_service_pb.js";
import * as runner from "./gen/perdure/v1/runner_service_pb.js";
import * as server from "./gen/perdure/v1/server_service_pb.js";
import * as timers from "./gen/perdure/v1/timer_service_pb.js";
import * as workflows from "./gen/perdure/v1/workflow_service_pb.js";
import type { RawJson } from "./json.js";
import { Attempts, NO_RETRIES, retryPolicyOf, timeLimitOf, type CallRetryPolicy } from "./retry.js";
import type { TlsOptions } from "./tls.js";
import { Transport, type CallOptions } from "./transport.js";
import * as types from "./types.js";
import { watch } from "./watch.js";

/** Default number of items per page. */
export const PAGE_SIZE = 100;

const TIMEOUT_MS = 30_000;

// The duration of a backup depends on the size of the database.
const BACKUP_TIMEOUT_MS = 3_600_000;

/** Options of a client. */
export interface ClientOptions {
  /** Default: no TLS. */
  readonly tls?: TlsOptions | undefined;
  /** Limits each call, including retries, in milliseconds. Default: 30,000. Each method accepts another limit. */
  readonly timeoutMs?: number | undefined;
  /** gRPC metadata to send with every call, such as `{ authorization: "Bearer ..." }`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Policy for retries. Absent fields have their defaults. */
  readonly retry?: Partial<CallRetryPolicy> | undefined;
}

/**
 * A client of a perdure server. The first call opens the connection. Share one client between any number of concurrent
 * calls.
 *
 * If a call fails for a temporary reason (lost connection, restarting server, overload), the client retries it with the same
 * request ID until the call's timeout. Methods reject with the classes of `errors.ts`. An aborted call rejects with the
 * reason of its signal.
 */
export class Client {
  private readonly transport: Transport;
  private readonly retry: CallRetryPolicy;
  private readonly timeoutMs: number;

  /**
   * `target` is the server's address, `HOST:PORT`. The constructor does not connect.
   *
   * Throws `InvalidFieldError` for an invalid timeout or retry policy.
   */
  constructor(
    readonly target: string = DEFAULT_TARGET,
    options: ClientOptions = {},
  ) {
    this.retry = retryPolicyOf(options.retry);
    this.timeoutMs = timeLimitOf("timeoutMs", options.timeoutMs ?? TIMEOUT_MS);
    this.transport = new Transport(target, options.tls, options.metadata ?? {}, this.retry, this.timeoutMs);
  }

  /** Closes the connection and cancels calls in progress. Closing a closed client has no effect. */
  close(): void {
    this.transport.close();
  }

  // --- starting and resuming -------------------------------------------------------------------------------------

  /**
   * Stores a new instance and starts it. Steps see `context` as their input. It is an object or `RawJson`, by default an
   * empty object.
   *
   * Rejects with `WorkflowNotFoundError`, `InstanceAlreadyExistsError`, `BusinessKeyInUseError`, `InvalidFieldError`,
   * `PayloadTooLargeError`, `RequestIdReusedError`.
   */
  async startInstance(
    workflow: string,
    context?: object | RawJson,
    options: types.StartOptions = {},
  ): Promise<types.StartedInstance> {
    const requestId = requestIdOf(options);
    const request = create(runner.StartInstanceRequestSchema, {
      workflow: args.required("workflow", workflow),
      context: args.payload("context", context ?? {})!,
      opts: {
        requestId,
        instanceId: args.text("opts.instance_id", options.instanceId),
        version: args.uint32("opts.version", options.version),
        businessKey: args.text("opts.business_key", options.businessKey),
        conflictPolicy: args.member(
          "opts.conflict_policy",
          runner.ConflictPolicySchema,
          options.conflictPolicy ?? "FAIL",
        ),
        startDelayMs: args.int64("opts.start_delay_ms", options.startDelayMs),
        labels: args.labels("opts.labels", options.labels),
      },
    });
    const method = runner.RunnerService.method.startInstance;
    const response = await this.transport.unary(method, request, options, { requestId });
    const { instanceId, created, version, revision } = response;
    return { instanceId, created, version, revision: Number(revision) };
  }

  /**
   * Delivers an event to the step that waits for it. `payload` becomes the step's output, by default an empty object.
   *
   * Rejects with `InstanceNotFoundError`, `InstanceEndedError`, `StepNotFoundError`, `StepFinishedError`,
   * `StepUnreachableError`, `EventNotAwaitedError`, `EventNeverAcceptedError`, `AmbiguousEventError`, `InboxFullError`,
   * `PayloadTooLargeError`, `RequestIdReusedError`.
   */
  async resume(
    instanceId: string,
    event: string,
    payload?: unknown,
    options: types.ResumeOptions = {},
  ): Promise<types.Resumed> {
    const requestId = requestIdOf(options);
    const body = args.payload("payload", payload);
    const request = create(runner.ResumeRequestSchema, {
      instanceId: args.required("instance_id", instanceId),
      event: args.required("event", event),
      opts: {
        requestId,
        stepRef: args.text("opts.step_ref", options.stepRef),
        buffer: args.bool("opts.buffer", options.buffer),
        ...(body === undefined ? {} : { payload: body }),
      },
    });
    const method = runner.RunnerService.method.resume;
    const response = await this.transport.unary(method, request, options, { requestId });
    return {
      disposition: convert.nameOf(runner.DispositionSchema, response.disposition, types.DISPOSITIONS),
      stepRef: response.stepRef,
      revision: Number(response.revision),
    };
  }

  /**
   * Arms a durable timer that resumes a step with the event `timeout` after `delayMs` milliseconds, never earlier.
   *
   * Rejects with `InstanceNotFoundError`, `InstanceEndedError`, `StepNotFoundError`, `StepFinishedError`,
   * `StepUnreachableError`, `StepHasNoTimeoutError`, `RequestIdReusedError`.
   */
  async scheduleResume(
    instanceId: string,
    stepRef: string,
    delayMs: number | bigint,
    options: types.MutationOptions = {},
  ): Promise<types.ScheduledResume> {
    const requestId = requestIdOf(options);
    const request = create(runner.ScheduleResumeRequestSchema, {
      instanceId: args.required("instance_id", instanceId),
      stepRef: args.required("step_ref", stepRef),
      delayMs: args.int64("delay_ms", args.present("delay_ms", delayMs)),
      opts: { requestId },
    });
    const method = runner.RunnerService.method.scheduleResume;
    const { reference, dueTime, revision } = await this.transport.unary(method, request, options, { requestId });
    return { reference, dueTime: convert.dateOf(dueTime), revision: Number(revision) };
  }

  // --- instances -------------------------------------------------------------------------------------------------

  /** Returns the current state of an instance, with its payloads. Rejects with `InstanceNotFoundError`. */
  async getInstance(instanceId: string, options: CallOptions = {}): Promise<types.Instance> {
    const request = create(instances.GetInstanceRequestSchema, {
      instanceId: args.required("instance_id", instanceId),
    });
    const method = instances.InstanceService.method.getInstance;
    const { instance } = await this.transport.unary(method, request, options);
    return convert.instanceOf(instance ?? create(instances.InstanceSchema));
  }

  /**
   * Yields the instances that match every given filter, newest first.
   *
   * The server examines a limited number of instances for each page. With a filter that few instances match, the
   * iterator requests several pages, some of them empty, before it yields.
   */
  listInstances(filter: types.InstanceFilter = {}): AsyncGenerator<types.InstanceSummary, void, undefined> {
    const filters: MessageInitShape<typeof instances.ListInstancesRequestSchema> = {
      pageSize: pageSizeOf(filter),
      states: args.list("states", filter.states).map((state) =>
        args.member<instances.InstanceState>("states", instances.InstanceStateSchema, state),
      ),
      workflow: args.text("workflow", filter.workflow),
      labels: args.labels("labels", filter.labels),
      businessKey: args.text("business_key", filter.businessKey),
      version: args.uint32("version", filter.version),
      unconsumedEvents: args.bool("unconsumed_events", filter.unconsumedEvents),
    };
    return pages(async (pageToken) => {
      const request = create(instances.ListInstancesRequestSchema, { ...filters, pageToken });
      const method = instances.InstanceService.method.listInstances;
      const page = await this.transport.unary(method, request, filter);
      return [page.instances.map(convert.summaryOf), page.nextPageToken];
    });
  }

  /**
   * Yields the current entries of an instance's history, in order.
   *
   * Throws `InstanceNotFoundError`, `RevisionInFutureError`, `RevisionCompactedError`.
   */
  listHistory(
    instanceId: string,
    options: types.HistoryOptions = {},
  ): AsyncGenerator<HistoryEntry, void, undefined> {
    const filters: MessageInitShape<typeof instances.ListHistoryRequestSchema> = {
      instanceId: args.required("instance_id", instanceId),
      afterRevision: args.int64("after_revision", options.afterRevision),
      pageSize: pageSizeOf(options),
    };
    return pages(async (pageToken) => {
      const request = create(instances.ListHistoryRequestSchema, { ...filters, pageToken });
      const method = instances.InstanceService.method.listHistory;
      const page = await this.transport.unary(method, request, options);
      return [page.entries.map(convert.entryOf), page.nextPageToken];
    });
  }

  /**
   * Watches an instance: yields a snapshot, each later history entry once and in order, then the end.
   *
   * With `afterRevision` there is no snapshot, and 0 gives the whole history. If the connection breaks, the watch continues
   * after the last revision that it yielded. The first response must arrive within the client's timeout.
   *
   * Throws `InstanceNotFoundError`, `RevisionInFutureError`, `RevisionCompactedError`, `DeadlineExceededError`,
   * `UnavailableError`.
   */
  watchInstance(
    instanceId: string,
    options: types.WatchOptions = {},
  ): AsyncGenerator<types.WatchEvent, void, undefined> {
    return watch(this.transport, instanceId, options, this.retry, this.timeoutMs);
  }

  /**
   * Waits until an instance is COMPLETED, FAILED or CANCELLED, and returns it.
   *
   * Rejects with `InstanceNotFoundError`, with `UnavailableError` if the server is unreachable for too long, and with
   * `DeadlineExceededError` after `timeoutMs`.
   */
  async waitForEnd(instanceId: string, options: types.WaitOptions = {}): Promise<types.Instance> {
    const limitMs = options.timeoutMs === undefined ? Infinity : timeLimitOf("timeoutMs", options.timeoutMs);
    const whole = new Attempts(NO_RETRIES, limitMs);
    for (;;) {
      const timeoutMs = whole.leftMs;
      if (timeoutMs === 0) throw new DeadlineExceededError(`instance '${instanceId}' did not end within ${limitMs} ms`);
      for await (const event of this.watchInstance(instanceId, { ...options, timeoutMs }))
        if (event.type === "end") break;
      const instance = await this.getInstance(instanceId, { signal: options.signal });
      if (["COMPLETED", "FAILED", "CANCELLED"].includes(instance.state)) return instance;
      // Otherwise a client retried the instance in the meantime.
    }
  }

  /** Cancels an instance. Rejects with `InstanceNotFoundError`, `InstanceEndedError`. */
  async cancelInstance(instanceId: string, options: types.CancelOptions = {}): Promise<types.Revised> {
    const requestId = requestIdOf(options);
    const request = create(instances.CancelInstanceRequestSchema, {
      instanceId: args.required("instance_id", instanceId),
      opts: { requestId, reason: args.text("opts.reason", options.reason) },
    });
    const method = instances.InstanceService.method.cancelInstance;
    const { revision } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision) };
  }

  /**
   * Retries a FAILED instance: its failed and interrupted steps become active again. Every timer of `scheduleResume` is
   * kept with its original due time and gets a new reference.
   *
   * Rejects with `InstanceNotFoundError`, `InstanceNotFailedError`, `BusinessKeyInUseError`.
   */
  async retryInstance(instanceId: string, options: types.MutationOptions = {}): Promise<types.Revised> {
    const requestId = requestIdOf(options);
    const request = create(instances.RetryInstanceRequestSchema, {
      instanceId: args.required("instance_id", instanceId),
      opts: { requestId },
    });
    const method = instances.InstanceService.method.retryInstance;
    const { revision } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision) };
  }

  // --- timers ----------------------------------------------------------------------------------------------------

  /** Returns a pending timer. Rejects with `TimerNotFoundError`. */
  async getTimer(reference: string, options: CallOptions = {}): Promise<types.Timer> {
    const request = create(timers.GetTimerRequestSchema, { reference: args.required("reference", reference) });
    const { timer } = await this.transport.unary(timers.TimerService.method.getTimer, request, options);
    return convert.timerOf(timer ?? create(timers.TimerSchema));
  }

  /** Yields pending timers by due time, of one instance or, if `instanceId` is empty, of all instances. */
  listTimers(instanceId = "", options: types.ListOptions = {}): AsyncGenerator<types.Timer, void, undefined> {
    const filters: MessageInitShape<typeof timers.ListTimersRequestSchema> = {
      instanceId: args.required("instance_id", instanceId),
      pageSize: pageSizeOf(options),
    };
    return pages(async (pageToken) => {
      const request = create(timers.ListTimersRequestSchema, { ...filters, pageToken });
      const page = await this.transport.unary(timers.TimerService.method.listTimers, request, options);
      return [page.timers.map(convert.timerOf), page.nextPageToken];
    });
  }

  /** Cancels a timer of kind TIMEOUT. Rejects with `TimerNotFoundError`, `TimerNotCancellableError`. */
  async cancelTimer(reference: string, options: types.MutationOptions = {}): Promise<types.Revised> {
    const requestId = requestIdOf(options);
    const request = create(timers.CancelTimerRequestSchema, {
      reference: args.required("reference", reference),
      opts: { requestId },
    });
    const method = timers.TimerService.method.cancelTimer;
    const { revision } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision) };
  }

  /** Fires a pending timer immediately. Rejects with `TimerNotFoundError`. */
  async fireTimer(reference: string, options: types.MutationOptions = {}): Promise<types.FiredTimer> {
    const requestId = requestIdOf(options);
    const request = create(timers.FireTimerRequestSchema, {
      reference: args.required("reference", reference),
      opts: { requestId },
    });
    const method = timers.TimerService.method.fireTimer;
    const { revision, used } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision), used };
  }

  // --- workflows, server -----------------------------------------------------------------------------------------

  /** Returns a workflow with its graph. Version 0 is the newest. Rejects with `WorkflowNotFoundError`. */
  async getWorkflow(workflow: string, version = 0, options: CallOptions = {}): Promise<types.WorkflowVersion> {
    const request = create(workflows.GetWorkflowRequestSchema, {
      workflow: args.required("workflow", workflow),
      version: args.uint32("version", version),
    });
    const method = workflows.WorkflowService.method.getWorkflow;
    const response = await this.transport.unary(method, request, options);
    return convert.workflowOf(response.workflow ?? create(workflows.WorkflowSchema));
  }

  /** Yields every version of every workflow. */
  listWorkflows(options: types.ListOptions = {}): AsyncGenerator<types.WorkflowSummary, void, undefined> {
    const pageSize = pageSizeOf(options);
    return pages(async (pageToken) => {
      const request = create(workflows.ListWorkflowsRequestSchema, { pageSize, pageToken });
      const page = await this.transport.unary(workflows.WorkflowService.method.listWorkflows, request, options);
      return [page.workflows.map(convert.workflowSummaryOf), page.nextPageToken];
    });
  }

  /**
   * Writes a backup of the server's database into the directory that the server was started with. Resolves once the
   * backup is complete and verified. `fileName` is at most 128 characters of `A-Z a-z 0-9 . _ -` and starts with a
   * letter or a digit. The timeout is one hour by default. The call is not retried, and the server removes an
   * incomplete backup when it ends.
   *
   * Rejects with `BackupNotConfiguredError`, `BackupAlreadyExistsError`, `BackupFailedError`, `InvalidFieldError`, and
   * with `OverloadedError` if a backup is already running.
   */
  async backupDatabase(fileName: string, options: CallOptions = {}): Promise<types.Backup> {
    const request = create(server.BackupDatabaseRequestSchema, { fileName: args.required("file_name", fileName) });
    const method = server.ServerService.method.backupDatabase;
    const limited = { ...options, timeoutMs: options.timeoutMs ?? BACKUP_TIMEOUT_MS };
    const response = await this.transport.unary(method, request, limited, { retry: NO_RETRIES });
    return {
      path: response.path,
      sizeBytes: Number(response.sizeBytes),
      instances: Number(response.instances),
      snapshotTime: convert.dateOf(response.snapshotTime),
    };
  }

  /** Returns the health of the server. The call is not retried. Rejects with `UnavailableError` without a server. */
  async checkHealth(service = "", options: CallOptions = {}): Promise<types.Health> {
    const request = create(HealthCheckRequestSchema, { service: args.text("service", service) });
    const method = HealthService.method.check;
    const { status } = await this.transport.unary(method, request, options, { retry: NO_RETRIES });
    return convert.nameOf(HealthCheckResponse_ServingStatusSchema, status, types.HEALTHS);
  }
}

function requestIdOf(options: types.MutationOptions): string {
  return args.text("opts.request_id", options.requestId) || crypto.randomUUID();
}

function pageSizeOf(options: types.ListOptions): number {
  return args.int32("page_size", options.pageSize ?? PAGE_SIZE);
}

async function* pages<T>(
  pageAt: (pageToken: string) => Promise<readonly [readonly T[], string]>,
): AsyncGenerator<T, void, undefined> {
  let token = "";
  do {
    const [items, next] = await pageAt(token);
    yield* items;
    token = next;
  } while (token !== "");
}
