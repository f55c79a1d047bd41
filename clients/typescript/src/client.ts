/** `Client`: perdure's API. Each method builds a message, sends it, and returns plain values. */

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { DEFAULT_TARGET, type TlsOptions } from "./channel.js";
import * as convert from "./convert.js";
import { DeadlineExceededError } from "./errors.js";
import type { HistoryEntry } from "./facts.js";
import * as fields from "./fields.js";
import { Health as HealthService, HealthCheckRequestSchema } from "./gen/grpc/health/v1/health_pb.js";
import { HealthCheckResponse_ServingStatusSchema } from "./gen/grpc/health/v1/health_pb.js";
import * as instances from "./gen/perdure/v1/instance_service_pb.js";
import * as runner from "./gen/perdure/v1/runner_service_pb.js";
import * as server from "./gen/perdure/v1/server_service_pb.js";
import * as timers from "./gen/perdure/v1/timer_service_pb.js";
import * as workflows from "./gen/perdure/v1/workflow_service_pb.js";
import type { JsonText } from "./json.js";
import { Attempts, NO_RETRIES, retriesOf, timeLimitOf, type CallRetryPolicy } from "./retry.js";
import { Transport, type CallOptions } from "./transport.js";
import * as types from "./types.js";
import { watch } from "./watch.js";

/** How many items a list asks for at a time, unless told otherwise. */
export const PAGE_SIZE = 100;

const TIMEOUT_MS = 30_000;

/** The duration of a backup depends on the size of the database. */
const BACKUP_TIMEOUT_MS = 3_600_000;

export interface ClientOptions {
  /** Absent means without TLS. */
  readonly tls?: TlsOptions | undefined;
  /** Limits each call, including retries. 30,000 if absent. Each method takes one of its own, see `CallOptions`. */
  readonly timeoutMs?: number | undefined;
  /** Sent with every call, such as `{ authorization: "Bearer ..." }`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly retries?: Partial<CallRetryPolicy> | undefined;
}

/**
 * A connection to a perdure server, opened by the first call. One client serves any number of concurrent calls.
 *
 * A call that failed for a moment's reason (connection lost, server restarting, overload) is sent again with the same
 * request id until its timeout. Methods reject with the classes of `errors.ts`, an aborted one with its signal's
 * reason.
 */
export class Client {
  private readonly transport: Transport;
  private readonly retries: CallRetryPolicy;
  private readonly timeoutMs: number;

  constructor(
    readonly target: string = DEFAULT_TARGET,
    options: ClientOptions = {},
  ) {
    this.retries = retriesOf(options.retries);
    this.timeoutMs = timeLimitOf("timeoutMs", options.timeoutMs ?? TIMEOUT_MS);
    this.transport = new Transport(target, options.tls, options.metadata ?? {}, this.retries, this.timeoutMs);
  }

  /** Closes the connection; calls under way are cancelled. May be called twice. */
  close(): void {
    this.transport.close();
  }

  // --- the three verbs -------------------------------------------------------------------------------------------

  /**
   * Stores a new instance, which begins to run. `context` is an object (absent: an empty one), or `JsonText`.
   *
   * Rejects with `WorkflowNotFoundError`, `InstanceAlreadyExistsError`, `BusinessKeyInUseError`, `InvalidFieldError`,
   * `PayloadTooLargeError`, `RequestIdReusedError`.
   */
  async startInstance(
    workflow: string,
    context?: object | JsonText,
    options: types.StartOptions = {},
  ): Promise<types.StartedInstance> {
    const requestId = requestIdOf(options);
    const request = create(runner.StartInstanceRequestSchema, {
      workflow: fields.required("workflow", workflow),
      context: fields.payload("context", context ?? {})!,
      opts: {
        requestId,
        instanceId: fields.text("opts.instance_id", options.instanceId),
        version: fields.uint32("opts.version", options.version),
        businessKey: fields.text("opts.business_key", options.businessKey),
        conflictPolicy: fields.member(
          "opts.conflict_policy",
          runner.ConflictPolicySchema,
          options.conflictPolicy ?? "FAIL",
        ),
        startDelayMs: fields.int64("opts.start_delay_ms", options.startDelayMs),
        labels: fields.labels("opts.labels", options.labels),
      },
    });
    const method = runner.RunnerService.method.startInstance;
    const answer = await this.transport.unary(method, request, options, { requestId });
    const { instanceId, created, version, revision } = answer;
    return { instanceId, created, version, revision: Number(revision) };
  }

  /**
   * Brings an event to the step that waits for it; `payload` becomes the step's output (absent: an empty object).
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
    const body = fields.payload("payload", payload);
    const request = create(runner.ResumeRequestSchema, {
      instanceId: fields.required("instance_id", instanceId),
      event: fields.required("event", event),
      opts: {
        requestId,
        stepRef: fields.text("opts.step_ref", options.stepRef),
        buffer: fields.bool("opts.buffer", options.buffer),
        ...(body === undefined ? {} : { payload: body }),
      },
    });
    const answer = await this.transport.unary(runner.RunnerService.method.resume, request, options, { requestId });
    return {
      disposition: convert.nameOf(runner.DispositionSchema, answer.disposition, types.DISPOSITIONS),
      stepRef: answer.stepRef,
      revision: Number(answer.revision),
    };
  }

  /**
   * Resumes a step with the event `timeout` after `delayMs`, durably and never earlier.
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
      instanceId: fields.required("instance_id", instanceId),
      stepRef: fields.required("step_ref", stepRef),
      delayMs: fields.int64("delay_ms", fields.present("delay_ms", delayMs)),
      opts: { requestId },
    });
    const method = runner.RunnerService.method.scheduleResume;
    const { reference, dueTime, revision } = await this.transport.unary(method, request, options, { requestId });
    return { reference, dueTime: convert.dateOf(dueTime), revision: Number(revision) };
  }

  // --- instances -------------------------------------------------------------------------------------------------

  /** Returns an instance as it is now, with its payloads. Rejects with `InstanceNotFoundError`. */
  async getInstance(instanceId: string, options: CallOptions = {}): Promise<types.Instance> {
    const request = create(instances.GetInstanceRequestSchema, {
      instanceId: fields.required("instance_id", instanceId),
    });
    const method = instances.InstanceService.method.getInstance;
    const { instance } = await this.transport.unary(method, request, options);
    return convert.instanceOf(instance ?? create(instances.InstanceSchema));
  }

  /**
   * Yields the instances that match every given filter, newest first, page after page.
   *
   * The server examines a limited number of instances for each page. With a filter that few instances match, the
   * iterator requests several pages, some of them empty, before it yields.
   */
  listInstances(filter: types.InstanceFilter = {}): AsyncGenerator<types.InstanceSummary, void, undefined> {
    const asked: MessageInitShape<typeof instances.ListInstancesRequestSchema> = {
      pageSize: pageSizeOf(filter),
      states: fields.list("states", filter.states).map((state) =>
        fields.member<instances.InstanceState>("states", instances.InstanceStateSchema, state),
      ),
      workflow: fields.text("workflow", filter.workflow),
      labels: fields.labels("labels", filter.labels),
      businessKey: fields.text("business_key", filter.businessKey),
      version: fields.uint32("version", filter.version),
      unconsumedEvents: fields.bool("unconsumed_events", filter.unconsumedEvents),
    };
    return pages(async (pageToken) => {
      const request = create(instances.ListInstancesRequestSchema, { ...asked, pageToken });
      const method = instances.InstanceService.method.listInstances;
      const page = await this.transport.unary(method, request, filter);
      return [page.instances.map(convert.summaryOf), page.nextPageToken];
    });
  }

  /**
   * Yields the entries after a revision, in order, up to now. Throws `InstanceNotFoundError`, `RevisionInFutureError`,
   * `RevisionCompactedError`.
   */
  listHistory(
    instanceId: string,
    options: types.HistoryOptions = {},
  ): AsyncGenerator<HistoryEntry, void, undefined> {
    const asked: MessageInitShape<typeof instances.ListHistoryRequestSchema> = {
      instanceId: fields.required("instance_id", instanceId),
      afterRevision: fields.int64("after_revision", options.afterRevision),
      pageSize: pageSizeOf(options),
    };
    return pages(async (pageToken) => {
      const request = create(instances.ListHistoryRequestSchema, { ...asked, pageToken });
      const method = instances.InstanceService.method.listHistory;
      const page = await this.transport.unary(method, request, options);
      return [page.entries.map(convert.entryOf), page.nextPageToken];
    });
  }

  /**
   * Follows an instance: a snapshot, each later history entry once and in order, then the end.
   *
   * With `afterRevision` there is no snapshot; 0 gives the whole history. A stream that breaks is taken up again after
   * the last revision given out; the first answer must come within the client's timeout.
   *
   * Throws `InstanceNotFoundError`, `RevisionInFutureError`, `RevisionCompactedError`, `DeadlineExceededError`,
   * `UnavailableError`.
   */
  watchInstance(
    instanceId: string,
    options: types.WatchOptions = {},
  ): AsyncGenerator<types.WatchEvent, void, undefined> {
    return watch(this.transport, instanceId, options, this.retries, this.timeoutMs);
  }

  /**
   * Returns the instance once it is COMPLETED, FAILED or CANCELLED. Rejects with `InstanceNotFoundError`, and with
   * `DeadlineExceededError` when `timeoutMs` (absent: for ever) passes first.
   */
  async waitForEnd(instanceId: string, options: CallOptions = {}): Promise<types.Instance> {
    const limitMs = options.timeoutMs === undefined ? Infinity : timeLimitOf("timeoutMs", options.timeoutMs);
    const whole = new Attempts(NO_RETRIES, limitMs);
    for (;;) {
      const timeoutMs = whole.leftMs;
      if (timeoutMs === 0) throw new DeadlineExceededError(`${instanceId} did not end within ${limitMs} ms`);
      for await (const event of this.watchInstance(instanceId, { ...options, timeoutMs }))
        if (event.type === "end") break;
      const instance = await this.getInstance(instanceId, { signal: options.signal });
      if (["COMPLETED", "FAILED", "CANCELLED"].includes(instance.state)) return instance;
      // Otherwise it was retried in between.
    }
  }

  /** Ends an instance. Rejects with `InstanceNotFoundError`, `InstanceEndedError`. */
  async cancelInstance(instanceId: string, options: types.CancelOptions = {}): Promise<types.Revised> {
    const requestId = requestIdOf(options);
    const request = create(instances.CancelInstanceRequestSchema, {
      instanceId: fields.required("instance_id", instanceId),
      opts: { requestId, reason: fields.text("opts.reason", options.reason) },
    });
    const method = instances.InstanceService.method.cancelInstance;
    const { revision } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision) };
  }

  /**
   * Sets a FAILED instance going again. Rejects with `InstanceNotFoundError`, `InstanceNotFailedError`,
   * `BusinessKeyInUseError`. Every timer of `scheduleResume` is kept with its original due time and gets a new
   * reference.
   */
  async retryInstance(instanceId: string, options: types.MutationOptions = {}): Promise<types.Revised> {
    const requestId = requestIdOf(options);
    const request = create(instances.RetryInstanceRequestSchema, {
      instanceId: fields.required("instance_id", instanceId),
      opts: { requestId },
    });
    const method = instances.InstanceService.method.retryInstance;
    const { revision } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision) };
  }

  // --- timers ----------------------------------------------------------------------------------------------------

  /** Returns a pending timer. Rejects with `TimerNotFoundError`. */
  async getTimer(reference: string, options: CallOptions = {}): Promise<types.Timer> {
    const request = create(timers.GetTimerRequestSchema, { reference: fields.required("reference", reference) });
    const { timer } = await this.transport.unary(timers.TimerService.method.getTimer, request, options);
    return convert.timerOf(timer ?? create(timers.TimerSchema));
  }

  /** Yields pending timers, of one instance or (with "") of all, the one that is due first on top. */
  listTimers(instanceId = "", options: types.ListOptions = {}): AsyncGenerator<types.Timer, void, undefined> {
    const asked: MessageInitShape<typeof timers.ListTimersRequestSchema> = {
      instanceId: fields.required("instance_id", instanceId),
      pageSize: pageSizeOf(options),
    };
    return pages(async (pageToken) => {
      const request = create(timers.ListTimersRequestSchema, { ...asked, pageToken });
      const page = await this.transport.unary(timers.TimerService.method.listTimers, request, options);
      return [page.timers.map(convert.timerOf), page.nextPageToken];
    });
  }

  /** Cancels a timer of kind TIMEOUT. Rejects with `TimerNotFoundError`, `TimerNotCancellableError`. */
  async cancelTimer(reference: string, options: types.MutationOptions = {}): Promise<types.Revised> {
    const requestId = requestIdOf(options);
    const request = create(timers.CancelTimerRequestSchema, {
      reference: fields.required("reference", reference),
      opts: { requestId },
    });
    const method = timers.TimerService.method.cancelTimer;
    const { revision } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision) };
  }

  /** Makes a pending timer act now. Rejects with `TimerNotFoundError`. */
  async fireTimer(reference: string, options: types.MutationOptions = {}): Promise<types.FiredTimer> {
    const requestId = requestIdOf(options);
    const request = create(timers.FireTimerRequestSchema, {
      reference: fields.required("reference", reference),
      opts: { requestId },
    });
    const method = timers.TimerService.method.fireTimer;
    const { revision, used } = await this.transport.unary(method, request, options, { requestId });
    return { revision: Number(revision), used };
  }

  // --- workflows, server -----------------------------------------------------------------------------------------

  /** Returns a workflow with its graph; version 0 is the newest. Rejects with `WorkflowNotFoundError`. */
  async getWorkflow(workflow: string, version = 0, options: CallOptions = {}): Promise<types.WorkflowVersion> {
    const request = create(workflows.GetWorkflowRequestSchema, {
      workflow: fields.required("workflow", workflow),
      version: fields.uint32("version", version),
    });
    const answer = await this.transport.unary(workflows.WorkflowService.method.getWorkflow, request, options);
    return convert.workflowOf(answer.workflow ?? create(workflows.WorkflowSchema));
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
    const request = create(server.BackupDatabaseRequestSchema, { fileName: fields.required("file_name", fileName) });
    const method = server.ServerService.method.backupDatabase;
    const bounded = { ...options, timeoutMs: options.timeoutMs ?? BACKUP_TIMEOUT_MS };
    const answer = await this.transport.unary(method, request, bounded, { retries: NO_RETRIES });
    return {
      path: answer.path,
      sizeBytes: Number(answer.sizeBytes),
      instances: Number(answer.instances),
      snapshotTime: convert.dateOf(answer.snapshotTime),
    };
  }

  /** Asks once, without retries, how the server is. Rejects with `UnavailableError` when nobody answers. */
  async checkHealth(service = "", options: CallOptions = {}): Promise<types.Health> {
    const request = create(HealthCheckRequestSchema, { service: fields.text("service", service) });
    const method = HealthService.method.check;
    const { status } = await this.transport.unary(method, request, options, { retries: NO_RETRIES });
    return convert.nameOf(HealthCheckResponse_ServingStatusSchema, status, types.HEALTHS);
  }
}

function requestIdOf(options: types.MutationOptions): string {
  return fields.text("opts.request_id", options.requestId) || crypto.randomUUID();
}

function pageSizeOf(options: types.ListOptions): number {
  return fields.int32("page_size", options.pageSize ?? PAGE_SIZE);
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
