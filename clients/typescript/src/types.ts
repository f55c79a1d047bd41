/**
 * Arguments and results of the client's methods, except the facts of a history. Values only: no protobuf, no I/O.
 *
 * Enums are their short names. A value that a newer server sends and that this version does not know is "UNKNOWN".
 * Revisions and sizes are numbers. Times are `Date`s, by the clock of the server's database. Durations are in milliseconds.
 */

import type { PerdureError } from "./errors.js";
import type { BufferedEvent, HistoryEntry, StepFailure, StepKind, TimerKind } from "./facts.js";
import type { JsonValue } from "./json.js";
import type { CallOptions } from "./transport.js";

/** State of an instance. */
export type InstanceState = (typeof INSTANCE_STATES)[number] | "UNKNOWN";
export const INSTANCE_STATES = ["PENDING", "RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELLED"] as const;

/** State of a step of an instance. */
export type StepState = (typeof STEP_STATES)[number] | "UNKNOWN";
export const STEP_STATES = [
  "QUEUED",
  "NO_WORKER",
  "RUNNING",
  "BACKING_OFF",
  "WAITING",
  "SLEEPING",
  "INTERRUPTED",
  "FINISHED",
  "SKIPPED",
  "JOINING",
  "FAILED",
] as const;

/** Effect of `startInstance` if an active instance of the workflow has the business key: reject, or return that instance. */
export type ConflictPolicy = (typeof CONFLICT_POLICIES)[number];
export const CONFLICT_POLICIES = ["FAIL", "USE_EXISTING"] as const;

/** Result of an accepted event: a step took it, or it is in the inbox. */
export type Disposition = (typeof DISPOSITIONS)[number] | "UNKNOWN";
export const DISPOSITIONS = ["DELIVERED", "BUFFERED"] as const;

/** Condition for the start of a step with several predecessors. */
export type JoinRule = (typeof JOIN_RULES)[number] | "UNKNOWN";
export const JOIN_RULES = ["AUTO", "ALL", "ANY"] as const;

/** Reason for the end of a watch. */
export type WatchEndReason = (typeof WATCH_END_REASONS)[number] | "UNKNOWN";
export const WATCH_END_REASONS = ["INSTANCE_ENDED", "SERVER_DRAINING"] as const;

/** Health of a server, as the standard health service reports it. */
export type Health = (typeof HEALTHS)[number] | "UNKNOWN";
export const HEALTHS = ["SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] as const;

// --- arguments ---------------------------------------------------------------------------------------------------

/** Options of every mutating method. */
export interface MutationOptions extends CallOptions {
  /** Makes retries of the call safe: calls with the same ID take effect once. Default: a random ID. */
  readonly requestId?: string | undefined;
}

/** Options of `startInstance`. */
export interface StartOptions extends MutationOptions {
  /** ID of the new instance. Default: the server chooses one. */
  readonly instanceId?: string | undefined;
  /** Version of the workflow. Default: 0, the newest. */
  readonly version?: number | undefined;
  /** Key that is unique among the workflow's instances that are PENDING, RUNNING or WAITING. */
  readonly businessKey?: string | undefined;
  /** Effect if an active instance has `businessKey`. Default: "FAIL". */
  readonly conflictPolicy?: ConflictPolicy | undefined;
  /** Time that the instance stays PENDING, in milliseconds. Default: 0. */
  readonly startDelayMs?: number | bigint | undefined;
  /** Labels to attach. `listInstances` can filter by them. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** Options of `resume`. */
export interface ResumeOptions extends MutationOptions {
  /** Step that takes the event. Required if several steps accept it. */
  readonly stepRef?: string | undefined;
  /** Keeps the event in the instance's inbox if no step waits for it yet. Default: false. */
  readonly buffer?: boolean | undefined;
}

/** Options of `cancelInstance`. */
export interface CancelOptions extends MutationOptions {
  /** Text for people, kept in the history. */
  readonly reason?: string | undefined;
}

/** Options of every list. `timeoutMs` limits each page. */
export interface ListOptions extends CallOptions {
  /** Number of items per page. The iterator continues over all pages. Default: 100. */
  readonly pageSize?: number | undefined;
}

/** Filters and options of `listInstances`. Without filters, it yields all instances. */
export interface InstanceFilter extends ListOptions {
  /** Instances in any of these states. Default: all states. */
  readonly states?: readonly Exclude<InstanceState, "UNKNOWN">[] | undefined;
  readonly workflow?: string | undefined;
  /** Version of `workflow`, which is then required. Default: 0, any version. */
  readonly version?: number | undefined;
  /** Instances with all of these labels. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly businessKey?: string | undefined;
  /** Only instances that ended with accepted events that no step consumed. */
  readonly unconsumedEvents?: boolean | undefined;
}

/** Options of `listHistory`. */
export interface HistoryOptions extends ListOptions {
  /** Only entries after this revision. Default: 0, the whole history. */
  readonly afterRevision?: number | bigint | undefined;
}

/** Options of `waitForEnd`. */
export interface WaitOptions {
  /** Limits the whole wait, in milliseconds. Default: no limit. */
  readonly timeoutMs?: number | undefined;
  /** Maximum time that the server can be unreachable, in milliseconds. Default: 300,000. */
  readonly reconnectTimeoutMs?: number | undefined;
  /** Called if the server cannot be reached twice in a row. The client keeps trying until `reconnectTimeoutMs`. */
  readonly onDisconnect?: ((error: PerdureError) => void) | undefined;
  /** Called when the server responds again after `onDisconnect`. */
  readonly onReconnect?: (() => void) | undefined;
  /** Ends the wait immediately. It then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of `watchInstance`. */
export interface WatchOptions extends WaitOptions {
  /** Starts with the entries after this revision instead of a snapshot. 0 gives the whole history. */
  readonly afterRevision?: number | bigint | undefined;
}

// --- results -----------------------------------------------------------------------------------------------------

/** Result of `startInstance`. */
export interface StartedInstance {
  readonly instanceId: string;
  /** True if this request ID created the instance, false if USE_EXISTING returned another one. */
  readonly created: boolean;
  readonly version: number;
  readonly revision: number;
}

/** Result of `resume`. */
export interface Resumed {
  readonly disposition: Disposition;
  /**
   * Step that took the event or that it is buffered for. Empty if it is buffered for any step. May carry a suffix `@3.7`;
   * treat it as opaque.
   */
  readonly stepRef: string;
  readonly revision: number;
}

/** Result of `scheduleResume`. */
export interface ScheduledResume {
  /** ID of the timer, for the timer methods. */
  readonly reference: string;
  readonly dueTime: Date | undefined;
  readonly revision: number;
}

/** Result of calls that only add an entry to a history. */
export interface Revised {
  /** Revision of the history entry that the call added. */
  readonly revision: number;
}

/** A complete, verified backup of a server's database. */
export interface Backup {
  /** Absolute path on the server's machine. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Number of instances in the backup. */
  readonly instances: number;
  /** Time of the copy, by the clock of the server's database. It contains every write that was acknowledged before. */
  readonly snapshotTime: Date | undefined;
}

/** Result of `fireTimer`. */
export interface FiredTimer extends Revised {
  /** False if the timer had no effect, because its step had finished or had not started. */
  readonly used: boolean;
}

/** An instance as of `revision`. */
export interface Instance {
  readonly instanceId: string;
  readonly workflow: string;
  readonly version: number;
  readonly state: InstanceState;
  readonly revision: number;
  /** The `context` that the instance was started with. */
  readonly input: JsonValue;
  /** Text of `input` as the server stores it, byte for byte. */
  readonly inputJson: string;
  /** Outputs of the steps that ended, by step ref. A ref may carry a suffix `@3.7`; treat it as opaque. */
  readonly outputs: Readonly<Record<string, JsonValue>>;
  /** Texts of `outputs` as the server stores them, byte for byte. */
  readonly outputsJson: Readonly<Record<string, string>>;
  readonly activeSteps: readonly ActiveStep[];
  readonly stepResults: readonly StepResult[];
  /** Error of a FAILED instance. */
  readonly error: InstanceFailure | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly businessKey: string;
  readonly inbox: readonly BufferedEvent[];
  readonly createTime: Date | undefined;
  readonly startTime: Date | undefined;
  readonly updateTime: Date | undefined;
  readonly endTime: Date | undefined;
}

/** A step that has not ended. */
export interface ActiveStep {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly state: StepState;
  /** Number of the newest attempt, 0 if there was none. */
  readonly attempt: number;
  /** External events that the step waits for. */
  readonly events: readonly string[];
  /** Time at which a timer acts on the step. */
  readonly deadline: Date | undefined;
  readonly lastFailure: StepFailure | undefined;
  /** Start of the newest attempt. Undefined if there was none. */
  readonly attemptStartTime: Date | undefined;
  /** Number of consecutive attempts that were lost together with the process that ran them. */
  readonly lostAttempts: number;
}

/** A step that has ended or that never starts. */
export interface StepResult {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly state: StepState;
  /** Event that ended the step. Empty unless `state` is FINISHED. */
  readonly event: string;
  readonly revision: number;
}

/** Error of a FAILED instance. */
export interface InstanceFailure extends StepFailure {
  /** Step that failed. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
}

/** An instance as a list returns it. */
export interface InstanceSummary {
  readonly instanceId: string;
  readonly workflow: string;
  readonly version: number;
  readonly state: InstanceState;
  readonly revision: number;
  readonly businessKey: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createTime: Date | undefined;
  readonly updateTime: Date | undefined;
  readonly endTime: Date | undefined;
  /** Number of accepted events that no step has consumed. */
  readonly inboxSize: number;
}

/** A pending timer. */
export interface Timer {
  /** ID of the timer. */
  readonly reference: string;
  readonly instanceId: string;
  /** Step of the timer, empty for a START timer. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly kind: TimerKind;
  readonly dueTime: Date | undefined;
  /** Server that fires the timer. */
  readonly owner: string;
  readonly createTime: Date | undefined;
  /** True if `scheduleResume` requested the timer, false if it comes from the workflow's definition. */
  readonly clientRequested: boolean;
}

/** A version of a workflow as the server stores it. */
export interface WorkflowVersion {
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  /** Step that starts first. */
  readonly start: string;
  readonly steps: readonly StepDefinition[];
  readonly createTime: Date | undefined;
}

/** A node of a workflow's graph. */
export interface StepDefinition {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly kind: StepKind;
  /** Targets of each event: step refs, or `end`. */
  readonly on: Readonly<Record<string, readonly string[]>>;
  readonly events: readonly string[];
  readonly join: JoinRule;
  readonly retry: RetryDefinition | undefined;
  readonly attemptTimeoutMs: number | undefined;
  readonly waitTimeoutMs: number | undefined;
  readonly sleepMs: number | undefined;
}

/** Retry policy of a step in a workflow's graph. */
export interface RetryDefinition {
  /** Number of failed attempts after which the step fails. */
  readonly maxAttempts: number;
  readonly initialBackoffMs: number;
  readonly maxBackoffMs: number;
  /** Growth of the delay from one attempt to the next. */
  readonly multiplier: number;
  /** Maximum share of a delay that is randomly subtracted, from 0 to 1. */
  readonly jitter: number;
}

/** A workflow version as a list returns it. */
export interface WorkflowSummary {
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  readonly stepCount: number;
  readonly createTime: Date | undefined;
}

/** An event of a watch: a snapshot (unless `afterRevision` is given), each later entry in order, then the end. */
export type WatchEvent =
  | { readonly type: "snapshot"; readonly revision: number; readonly instance: Instance }
  | { readonly type: "entry"; readonly revision: number; readonly entry: HistoryEntry }
  | { readonly type: "end"; readonly revision: number; readonly reason: WatchEndReason };
