/**
 * Facts of an instance's history: one interface per kind, with the fields of the API's message of the same name. Values
 * only. `convert.ts` creates them.
 */

/** Kind of a step: it runs code, waits for an event, or sleeps. "UNKNOWN" if a newer server sends another kind. */
export type StepKind = (typeof STEP_KINDS)[number] | "UNKNOWN";
export const STEP_KINDS = ["TASK", "WAIT", "SLEEP"] as const;

/**
 * Effect of a timer: it ends the start delay, ends its step with the event `timeout`, ends a sleep, or starts the next
 * attempt. "UNKNOWN" if a newer server sends another kind.
 */
export type TimerKind = (typeof TIMER_KINDS)[number] | "UNKNOWN";
export const TIMER_KINDS = ["START", "TIMEOUT", "SLEEP", "RETRY"] as const;

/** Size and digest of a payload. */
export interface PayloadInfo {
  /** Size of the JSON text in bytes. */
  readonly sizeBytes: number;
  /** BLAKE2b-128 digest of the JSON text, in hexadecimal. */
  readonly digest: string;
}

/** Error of a failed step. */
export interface StepFailure {
  /** Short name of the error, such as the exception's class. */
  readonly type: string;
  readonly message: string;
  /** Number of failed attempts. */
  readonly attempts: number;
}

/** An accepted event that no step has consumed. */
export interface BufferedEvent {
  readonly event: string;
  /**
   * Step that the event is for, empty if any step that accepts the event can take it. May carry a suffix `@3.7`; treat it
   * as opaque.
   */
  readonly stepRef: string;
  /** Revision at which the event was accepted. */
  readonly revision: number;
  readonly payload: PayloadInfo | undefined;
}

/** The instance was created. Always revision 1. */
export interface InstanceStarted {
  readonly workflow: string;
  readonly version: number;
  readonly definitionDigest: string;
  /** Step that starts first. May carry a suffix `@3.7`; treat it as opaque. */
  readonly startStep: string;
  readonly input: PayloadInfo | undefined;
  readonly businessKey: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Time that the instance stays PENDING, in milliseconds. Undefined without a start delay. */
  readonly startDelayMs: number | undefined;
}

/** A step became active. */
export interface StepStarted {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly kind: StepKind;
  /** Events that a wait step accepts. Empty for other kinds. */
  readonly events: readonly string[];
}

/** An attempt of a step started. */
export interface AttemptStarted {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  /** Number of the attempt, from 1. */
  readonly attempt: number;
  /** Server that runs the attempt or passes it to a worker. */
  readonly owner: string;
}

/** An attempt failed. */
export interface AttemptFailed {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly attempt: number;
  /** Short name of the error, such as the exception's class. */
  readonly type: string;
  readonly message: string;
  /** True if another attempt follows. */
  readonly retrying: boolean;
  /** Number of failed attempts of the step, including this one. */
  readonly failures: number;
}

/** An attempt was returned without a result. It does not count as a failure. */
export interface AttemptReleased {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly attempt: number;
  /** Short explanation, such as that the server stops. */
  readonly reason: string;
  /**
   * True if the process that ran the attempt stopped uncleanly. Too many losses in a row are followed by an
   * `attempt_failed` of type `AttemptLost`.
   */
  readonly lost: boolean;
}

/** A task returned SUSPEND and waits for one of `events`. */
export interface StepSuspended {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly attempt: number;
  readonly events: readonly string[];
}

/** A step ended. */
export interface StepFinished {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  /** Event that ended the step. */
  readonly event: string;
  /** Targets of the transition: step refs, or `end`. A ref may carry a suffix `@3.7`; treat it as opaque. */
  readonly targets: readonly string[];
  readonly output: PayloadInfo | undefined;
  /** Revision of the buffered event that ended the step, 0 if it was not a buffered event. */
  readonly bufferedRevision: number;
  /** Error of the step if `event` is `error`. */
  readonly failure: StepFailure | undefined;
}

/** A step never starts, because a predecessor that it requires cannot finish any more. */
export interface StepSkipped {
  /** Step. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
}

/** An event was accepted for which no step waits yet. */
export interface EventBuffered {
  readonly event: string;
  /**
   * Step that the event is for, empty if any step that accepts the event can take it. May carry a suffix `@3.7`; treat it
   * as opaque.
   */
  readonly stepRef: string;
  readonly payload: PayloadInfo | undefined;
}

/** A timer was armed. */
export interface TimerArmed {
  /** ID of the timer. */
  readonly reference: string;
  readonly kind: TimerKind;
  /** Step of the timer, the first step for a START timer. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly delayMs: number | undefined;
  readonly dueTime: Date | undefined;
  /** True if `scheduleResume` requested the timer, false if it comes from the workflow's definition. */
  readonly clientRequested: boolean;
}

/** A timer fired. */
export interface TimerFired {
  /** ID of the timer. */
  readonly reference: string;
  readonly kind: TimerKind;
  /** Step of the timer, the first step for a START timer. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  /** False if the timer had no effect, because its step had finished or had not started. */
  readonly used: boolean;
  /** True if `fireTimer` fired it. */
  readonly forced: boolean;
}

/** A client cancelled a timer. */
export interface TimerCancelled {
  /** ID of the timer. */
  readonly reference: string;
  /** Step of the timer. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
}

/** Every branch of the instance reached `end`. */
export interface InstanceCompleted {
  /** Accepted events that no step consumed. */
  readonly unconsumed: readonly BufferedEvent[];
}

/** A step failed that declares no `error` transition. */
export interface InstanceFailed {
  /** Step that failed. May carry a suffix `@3.7`; treat it as opaque. */
  readonly stepRef: string;
  readonly failure: StepFailure | undefined;
  /** Other active steps, which are interrupted. A ref may carry a suffix `@3.7`; treat it as opaque. */
  readonly interruptedSteps: readonly string[];
}

/** A client cancelled the instance. */
export interface InstanceCancelled {
  /** Reason that the client gave, or empty. */
  readonly reason: string;
  /** Accepted events that no step consumed. */
  readonly unconsumed: readonly BufferedEvent[];
}

/** A client retried the instance. The failed and the interrupted steps are active again. */
export type InstanceRetried = Readonly<Record<string, never>>;

/** Facts by their names in the API. */
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
  /** A fact of a kind that this version of the package does not know. Ignore it. */
  readonly unknown: Readonly<Record<string, never>>;
}

/** A fact with its kind. `switch (entry.kind)` narrows the type of `entry.fact`. */
export type KindOfFact = { [K in keyof Facts]: { readonly kind: K; readonly fact: Facts[K] } }[keyof Facts];

/** An entry of a history. */
export type HistoryEntry = KindOfFact & {
  readonly revision: number;
  readonly time: Date | undefined;
  /** Request ID of the call that caused the entry, or empty. */
  readonly requestId: string;
};
