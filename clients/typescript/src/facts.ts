/**
 * What a history says: one interface per kind of fact, with the fields of the API's message of the same name. Values
 * only; `convert.ts` fills them.
 */

/** What makes a step end: code, an external event, time. */
export type StepKind = (typeof STEP_KINDS)[number] | "UNKNOWN";
export const STEP_KINDS = ["TASK", "WAIT", "SLEEP"] as const;

/** What a timer does when it is due. */
export type TimerKind = (typeof TIMER_KINDS)[number] | "UNKNOWN";
export const TIMER_KINDS = ["START", "TIMEOUT", "SLEEP", "RETRY"] as const;

/** A payload without its body: bytes of its JSON text, and BLAKE2b-128 of them in hexadecimal. */
export interface PayloadInfo {
  readonly sizeBytes: number;
  readonly digest: string;
}

/** Why a step failed. `attempts` counts the failed ones. */
export interface StepFailure {
  readonly type: string;
  readonly message: string;
  readonly attempts: number;
}

/** An accepted event that no step has consumed. An empty `stepRef`: any step that accepts it may. */
export interface BufferedEvent {
  readonly event: string;
  readonly stepRef: string;
  readonly revision: number;
  readonly payload: PayloadInfo | undefined;
}

export interface InstanceStarted {
  readonly workflow: string;
  readonly version: number;
  readonly definitionDigest: string;
  readonly startStep: string;
  readonly input: PayloadInfo | undefined;
  readonly businessKey: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly startDelayMs: number | undefined;
}

export interface StepStarted {
  readonly stepRef: string;
  readonly kind: StepKind;
  readonly events: readonly string[];
}

export interface AttemptStarted {
  readonly stepRef: string;
  readonly attempt: number;
  readonly owner: string;
}

/** `retrying`: another attempt follows. `failures` counts the failed ones of the step. */
export interface AttemptFailed {
  readonly stepRef: string;
  readonly attempt: number;
  readonly type: string;
  readonly message: string;
  readonly retrying: boolean;
  readonly failures: number;
}

/** An attempt was given back without a result. It does not count as a failure. */
export interface AttemptReleased {
  readonly stepRef: string;
  readonly attempt: number;
  readonly reason: string;
  /**
   * The process that ran the attempt stopped uncleanly. Too many losses in a row are followed by an
   * `attempt_failed` of type `AttemptLost`.
   */
  readonly lost: boolean;
}

/** A task returned PENDING and waits for one of `events`. */
export interface StepSuspended {
  readonly stepRef: string;
  readonly attempt: number;
  readonly events: readonly string[];
}

/** A step ended with `event`, which leads to `targets`. `bufferedRevision` 0: no buffered event did it. */
export interface StepFinished {
  readonly stepRef: string;
  readonly event: string;
  readonly targets: readonly string[];
  readonly output: PayloadInfo | undefined;
  readonly bufferedRevision: number;
  readonly failure: StepFailure | undefined;
}

export interface StepSkipped {
  readonly stepRef: string;
}

export interface EventBuffered {
  readonly event: string;
  readonly stepRef: string;
  readonly payload: PayloadInfo | undefined;
}

/** `requested`: ScheduleResume asked for it, not the workflow's definition. */
export interface TimerArmed {
  readonly reference: string;
  readonly kind: TimerKind;
  readonly stepRef: string;
  readonly delayMs: number | undefined;
  readonly dueTime: Date | undefined;
  readonly clientRequested: boolean;
}

/** Not `used`: its step had finished or not begun. `forced`: FireTimer did it. */
export interface TimerFired {
  readonly reference: string;
  readonly kind: TimerKind;
  readonly stepRef: string;
  readonly used: boolean;
  readonly forced: boolean;
}

export interface TimerCancelled {
  readonly reference: string;
  readonly stepRef: string;
}

/** `unconsumed`: accepted events that no step took. */
export interface InstanceCompleted {
  readonly unconsumed: readonly BufferedEvent[];
}

/** `stepRef` failed without an `error` arrow; the other active steps are interrupted. */
export interface InstanceFailed {
  readonly stepRef: string;
  readonly failure: StepFailure | undefined;
  readonly interruptedSteps: readonly string[];
}

export interface InstanceCancelled {
  readonly reason: string;
  readonly unconsumed: readonly BufferedEvent[];
}

/** The failed and the interrupted steps are active again. */
export type InstanceRetried = Readonly<Record<string, never>>;

/** The facts by their names in the API. */
export interface Facts {
  readonly instance_started: InstanceStarted;
  readonly step_started: StepStarted;
  readonly attempt_started: AttemptStarted;
  readonly attempt_failed: AttemptFailed;
  readonly attempt_released: AttemptReleased;
  readonly step_suspended: StepSuspended;
  readonly step_finished: StepFinished;
  readonly step_skipped: StepSkipped;
  readonly event_buffered: EventBuffered;
  readonly timer_armed: TimerArmed;
  readonly timer_fired: TimerFired;
  readonly timer_cancelled: TimerCancelled;
  readonly instance_completed: InstanceCompleted;
  readonly instance_failed: InstanceFailed;
  readonly instance_cancelled: InstanceCancelled;
  readonly instance_retried: InstanceRetried;
  /** Something happened that a newer version of this package can tell: pass over it. */
  readonly unknown: Readonly<Record<string, never>>;
}

/** A fact with its kind: `switch (entry.kind)` narrows `entry.fact`. */
export type KindOfFact = { [K in keyof Facts]: { readonly kind: K; readonly fact: Facts[K] } }[keyof Facts];

/** One line of a history. */
export type HistoryEntry = KindOfFact & {
  readonly revision: number;
  readonly time: Date | undefined;
  /** The one of the call that caused it, if a call did. */
  readonly requestId: string;
};
