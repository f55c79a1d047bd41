/**
 * What the client takes and returns beside a history's facts. Values only: no protobuf, no I/O.
 *
 * Enums are their short names; what a newer server says and this version does not know is "UNKNOWN". Revisions and
 * sizes are numbers, times are `Date`s (of the server's store), lengths of time are in milliseconds.
 */

import type { BufferedEvent, HistoryEntry, StepFailure, StepKind, TimerKind } from "./facts.js";
import type { JsonValue } from "./json.js";
import type { CallOptions } from "./transport.js";

/** Where an instance stands. */
export type InstanceState = (typeof INSTANCE_STATES)[number] | "UNKNOWN";
export const INSTANCE_STATES = ["PENDING", "RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELLED"] as const;

/** Where a step of an instance stands. */
export type StepState = (typeof STEP_STATEES)[number] | "UNKNOWN";
export const STEP_STATEES = [
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

/** What StartInstance does when a live instance of the workflow holds the business key. */
export type ConflictPolicy = (typeof CONFLICT_POLICIES)[number];
export const CONFLICT_POLICIES = ["FAIL", "USE_EXISTING"] as const;

/** What became of an accepted event. */
export type Disposition = (typeof DISPOSITIONS)[number] | "UNKNOWN";
export const DISPOSITIONS = ["DELIVERED", "BUFFERED"] as const;

/** When a step with several predecessors begins. */
export type JoinRule = (typeof JOIN_RULES)[number] | "UNKNOWN";
export const JOIN_RULES = ["AUTO", "ALL", "ANY"] as const;

/** Why a server ends a watch for good. */
export type WatchEndReason = (typeof WATCH_END_REASONS)[number] | "UNKNOWN";
export const WATCH_END_REASONS = ["INSTANCE_ENDED", "SERVER_DRAINING", "TOO_SLOW"] as const;

/** What a server says of itself, by the standard health service. */
export type Health = (typeof HEALTHS)[number] | "UNKNOWN";
export const HEALTHS = ["SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] as const;

// --- what the methods take ---------------------------------------------------------------------------------------

/** What every mutating method takes. */
export interface MutationOptions extends CallOptions {
  /** Names the call, so that sending it again takes effect once; a random one if absent. */
  readonly requestId?: string | undefined;
}

export interface StartOptions extends MutationOptions {
  /** The id that the instance shall have; absent lets the server choose. */
  readonly instanceId?: string | undefined;
  /** The workflow's version; absent or 0 means the newest. */
  readonly version?: number | undefined;
  /** Unique per workflow among the instances that are PENDING, RUNNING or WAITING. */
  readonly businessKey?: string | undefined;
  /** What happens when a live instance holds `businessKey`; absent means FAIL. */
  readonly conflictPolicy?: ConflictPolicy | undefined;
  /** Until it has passed, the instance is PENDING. */
  readonly startDelayMs?: number | bigint | undefined;
  /** To find instances by. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export interface ResumeOptions extends MutationOptions {
  /** Picks the step when several accept the event. */
  readonly stepRef?: string | undefined;
  /** Keep the event in the instance's inbox when no step waits for it yet. */
  readonly buffer?: boolean | undefined;
}

export interface CancelOptions extends MutationOptions {
  /** For people; kept in the history. */
  readonly reason?: string | undefined;
}

/** What every list takes. `timeoutMs` is each page's. */
export interface ListOptions extends CallOptions {
  /** How many items a page holds; the iteration goes over all pages. */
  readonly pageSize?: number | undefined;
}

export interface InstanceFilter extends ListOptions {
  /** Instances in any of these states; absent means all. */
  readonly states?: readonly Exclude<InstanceState, "UNKNOWN">[] | undefined;
  readonly workflow?: string | undefined;
  /** A version of `workflow`, which is then required; absent or 0 means any. */
  readonly version?: number | undefined;
  /** Instances with all of these labels. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly businessKey?: string | undefined;
  /** Only instances that ended with accepted events that no step consumed. */
  readonly unconsumedEvents?: boolean | undefined;
}

export interface HistoryOptions extends ListOptions {
  /** Only entries after this revision. */
  readonly afterRevision?: number | bigint | undefined;
}

export interface WatchOptions {
  /** No snapshot: the entries after this revision, from 0 for the whole history. */
  readonly afterRevision?: number | bigint | undefined;
  /** Bounds the whole watch; absent means for ever. */
  readonly timeoutMs?: number | undefined;
  /** How long the server may stay away in between, 300,000 if absent. */
  readonly outageMs?: number | undefined;
  /** Ends the watch at once: the iteration throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

// --- what they return --------------------------------------------------------------------------------------------

export interface StartedInstance {
  readonly instanceId: string;
  /** Whether this call's request id created the instance; false when USE_EXISTING found one. */
  readonly created: boolean;
  readonly version: number;
  readonly revision: number;
}

export interface Resumed {
  readonly disposition: Disposition;
  /** The step that took the event or that it is buffered for; empty when it is in the inbox for whichever comes. */
  readonly stepRef: string;
  readonly revision: number;
}

export interface ScheduledResume {
  /** The timer's id, which the timer methods take. */
  readonly reference: string;
  readonly dueTime: Date | undefined;
  readonly revision: number;
}

export interface Revised {
  /** That of the history entry which the call caused. */
  readonly revision: number;
}

/** A complete, verified backup of a server's database. */
export interface Backup {
  /** Absolute, and on the server's machine. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Number of instances in the backup. */
  readonly instances: number;
  /** When the copy was taken, by the store's clock. It contains every write that was acknowledged before. */
  readonly snapshotTime: Date | undefined;
}

export interface FiredTimer extends Revised {
  /** False when the step had finished or not begun, so that nothing followed. */
  readonly used: boolean;
}

/** An instance as of `revision`. */
export interface Instance {
  readonly instanceId: string;
  readonly workflow: string;
  readonly version: number;
  readonly state: InstanceState;
  readonly revision: number;
  /** The context that it was started with. */
  readonly input: JsonValue;
  /** The same as the text that the server holds, byte for byte. */
  readonly inputJson: string;
  /** Each ended step's output, by its ref. */
  readonly outputs: Readonly<Record<string, JsonValue>>;
  /** The same as the texts that the server holds, byte for byte. */
  readonly outputsJson: Readonly<Record<string, string>>;
  readonly activeSteps: readonly ActiveStep[];
  readonly stepResults: readonly StepResult[];
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
  readonly stepRef: string;
  readonly status: StepState;
  readonly attempt: number;
  /** The external events that it waits for. */
  readonly events: readonly string[];
  /** When time will act on it. */
  readonly deadline: Date | undefined;
  readonly lastFailure: StepFailure | undefined;
  /** When the newest attempt started; undefined if there was none. */
  readonly attemptStartTime: Date | undefined;
  /** Number of attempts in a row that were lost together with the process that ran them. */
  readonly lostAttempts: number;
}

/** A step that has ended, with `event`, or that never will begin. */
export interface StepResult {
  readonly stepRef: string;
  readonly status: StepState;
  readonly event: string;
  readonly revision: number;
}

/** Why an instance is FAILED. */
export interface InstanceFailure extends StepFailure {
  readonly stepRef: string;
}

/** An instance as lists show it. */
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

/** A timer that has not acted yet. */
export interface Timer {
  readonly reference: string;
  readonly instanceId: string;
  /** Empty for a START timer. */
  readonly stepRef: string;
  readonly kind: TimerKind;
  readonly dueTime: Date | undefined;
  /** The replica that has it armed. */
  readonly owner: string;
  readonly createTime: Date | undefined;
  /** Whether ScheduleResume asked for it, and not the workflow's definition. */
  readonly clientRequested: boolean;
}

/** One version of a workflow as the server holds it. */
export interface WorkflowVersion {
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  /** The step that begins first. */
  readonly start: string;
  readonly steps: readonly StepDefinition[];
  readonly createTime: Date | undefined;
}

/** A node of a workflow's graph. */
export interface StepDefinition {
  readonly stepRef: string;
  readonly kind: StepKind;
  /** What follows each event: refs of steps, or `end`. */
  readonly on: Readonly<Record<string, readonly string[]>>;
  readonly events: readonly string[];
  readonly join: JoinRule;
  readonly retry: RetryPolicy | undefined;
  readonly attemptTimeoutMs: number | undefined;
  readonly waitTimeoutMs: number | undefined;
  readonly sleepMs: number | undefined;
}

export interface RetryPolicy {
  readonly maxAttempts: number;
  readonly initialBackoffMs: number;
  readonly maxBackoffMs: number;
  readonly multiplier: number;
  readonly jitter: number;
}

/** A workflow version as lists show it. */
export interface WorkflowSummary {
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  readonly stepCount: number;
  readonly createTime: Date | undefined;
}

/** What a watch says: a snapshot (unless it began after a revision), each later entry once and in order, the end. */
export type WatchEvent =
  | { readonly type: "snapshot"; readonly revision: number; readonly instance: Instance }
  | { readonly type: "entry"; readonly revision: number; readonly entry: HistoryEntry }
  | { readonly type: "end"; readonly revision: number; readonly reason: WatchEndReason };
