/**
 * Errors that calls reject with: one class per error reason, below one class per gRPC status code.
 *
 * Owns: the classes, their fields, and the table from reasons to classes. Must not: know gRPC. `status.ts` converts the
 * errors of gRPC to these classes.
 */

/** An invalid part of a request: the path of the field and a description of the problem. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** The object that was not found or that already exists: its type (`instance`, `workflow`, ...) and its name. */
export interface Resource {
  readonly type: string;
  readonly name: string;
}

/** Fields of an error other than its message. */
export interface ErrorFields {
  readonly code?: string | undefined;
  readonly reason?: string | undefined;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly violations?: readonly FieldViolation[] | undefined;
  readonly resource?: Resource | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly requestId?: string | undefined;
  readonly cause?: unknown;
}

/** A failed call. `message` says what is wrong. */
export class PerdureError extends Error {
  /** gRPC status code of the response, such as `NOT_FOUND`. */
  readonly code: string;
  /** Error reason of the API, such as `INSTANCE_NOT_FOUND`. Empty if the error came from gRPC itself. */
  readonly reason: string;
  /** Context of the error. Empty if the server sent none. */
  readonly detail: string;
  /** Suggested fix. Empty if the server sent none. */
  readonly hint: string;
  /** Values that belong to the reason, such as `state` or `step_refs`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** All invalid fields of the request. */
  readonly violations: readonly FieldViolation[];
  /** Object that was not found or that already exists. */
  readonly resource: Resource | undefined;
  /** Delay in milliseconds that the server asks for before a retry. */
  readonly retryAfterMs: number | undefined;
  /** Request ID of the call. Empty for reads. A retry with the same ID takes effect at most once. */
  readonly requestId: string;

  constructor(message: string, fields: ErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    const known = new.target as typeof PerdureError;
    this.code = fields.code ?? known.CODE;
    this.reason = fields.reason ?? known.REASON;
    this.metadata = fields.metadata ?? {};
    this.detail = fields.detail ?? "";
    this.hint = fields.hint ?? "";
    this.violations = fields.violations ?? [];
    this.resource = fields.resource;
    this.retryAfterMs = fields.retryAfterMs;
    this.requestId = fields.requestId ?? "";
  }

  /** gRPC status code of the class. */
  static readonly CODE: string = "UNKNOWN";
  /** Error reason of the class. Empty for the classes of status codes. */
  static readonly REASON: string = "";

  override get name(): string {
    return this.constructor.name;
  }

  /** True if a retry with the same request ID can succeed later. */
  get retryable(): boolean {
    return this.code === "UNAVAILABLE" || this.code === "CANCELLED" || this.reason === "OVERLOADED";
  }

  /**
   * Steps that the error names, such as the steps that wait for an ambiguous event. A ref may carry a suffix `@3.7`;
   * treat it as opaque.
   */
  get stepRefs(): readonly string[] {
    // An error about one step can also list other steps. The one step comes first.
    return ["step_ref", "step_refs", "steps"]
      .flatMap((key) => (this.metadata[key] ?? "").split(","))
      .map((ref) => ref.trim())
      .filter((ref) => ref !== "");
  }

  /** ID of the instance that the error is about. Empty if the error names none. */
  get instanceId(): string {
    const type = this.resource?.type.split(".").at(-1)?.toLowerCase();
    return type === "instance" ? (this.resource?.name ?? "") : (this.metadata["instance_id"] ?? "");
  }
}

// --- by gRPC status code ---

/** The request is invalid, whatever the state of the server. */
export class InvalidArgumentError extends PerdureError {
  static override readonly CODE: string = "INVALID_ARGUMENT";
}

/** The request names an object that does not exist. */
export class NotFoundError extends PerdureError {
  static override readonly CODE: string = "NOT_FOUND";
}

/** The request would create an object that already exists. */
export class AlreadyExistsError extends PerdureError {
  static override readonly CODE: string = "ALREADY_EXISTS";
}

/** The state of the instance, step or timer does not allow the request. */
export class FailedPreconditionError extends PerdureError {
  static override readonly CODE: string = "FAILED_PRECONDITION";
}

/** The requested revision is not in the history, or not in it any more. */
export class OutOfRangeError extends PerdureError {
  static override readonly CODE: string = "OUT_OF_RANGE";
}

/** A limit was reached. */
export class ResourceExhaustedError extends PerdureError {
  static override readonly CODE: string = "RESOURCE_EXHAUSTED";
}

/** The server cannot be reached or cannot work now. The client retried until the call's timeout. */
export class UnavailableError extends PerdureError {
  static override readonly CODE: string = "UNAVAILABLE";
}

/** The call timed out. It may or may not have taken effect. Retry it with the same `requestId`. */
export class DeadlineExceededError extends PerdureError {
  static override readonly CODE: string = "DEADLINE_EXCEEDED";
}

/** The server does not know the caller. */
export class UnauthenticatedError extends PerdureError {
  static override readonly CODE: string = "UNAUTHENTICATED";
}

/** The caller is not allowed to make this call. */
export class PermissionDeniedError extends PerdureError {
  static override readonly CODE: string = "PERMISSION_DENIED";
}

/** The server does not have this method. It is older than the client, or not a perdure server. */
export class UnimplementedError extends PerdureError {
  static override readonly CODE: string = "UNIMPLEMENTED";
}

/** The call was cancelled between the client and the server, for example by a proxy. */
export class CallCancelledError extends PerdureError {
  static override readonly CODE: string = "CANCELLED";
}

// --- by reason ---

/** Fields of the request are invalid. `violations` lists all of them. */
export class InvalidFieldError extends InvalidArgumentError {
  static override readonly REASON = "INVALID_FIELD";

  /** Returns the error for one invalid field. */
  static of(field: string, description: string, hint?: string): InvalidFieldError {
    return new InvalidFieldError(`${field}: ${description}`, { violations: [{ field, description }], hint });
  }
}

/** The request ID was already used for a different request. */
export class RequestIdReusedError extends InvalidArgumentError {
  static override readonly REASON = "REQUEST_ID_REUSED";
}

/** The workflow's graph is invalid. `violations` lists every issue. */
export class WorkflowInvalidError extends InvalidArgumentError {
  static override readonly REASON = "WORKFLOW_INVALID";
}

/** No instance has this ID. */
export class InstanceNotFoundError extends NotFoundError {
  static override readonly REASON = "INSTANCE_NOT_FOUND";
}

/** The server does not have this workflow, or not this version of it. */
export class WorkflowNotFoundError extends NotFoundError {
  static override readonly REASON = "WORKFLOW_NOT_FOUND";
}

/** The instance's workflow does not have this step. */
export class StepNotFoundError extends NotFoundError {
  static override readonly REASON = "STEP_NOT_FOUND";
}

/** No pending timer has this reference. It fired, was cancelled, or never existed. */
export class TimerNotFoundError extends NotFoundError {
  static override readonly REASON = "TIMER_NOT_FOUND";
}

/** Another call started an instance with this ID. */
export class InstanceAlreadyExistsError extends AlreadyExistsError {
  static override readonly REASON = "INSTANCE_ALREADY_EXISTS";
}

/** An active instance of the workflow, `instanceId`, has this business key. */
export class BusinessKeyInUseError extends AlreadyExistsError {
  static override readonly REASON = "BUSINESS_KEY_IN_USE";
}

/** The instance has ended, or has failed and can only be retried or cancelled. See `metadata.state`. */
export class InstanceEndedError extends FailedPreconditionError {
  static override readonly REASON = "INSTANCE_ENDED";
}

/** The instance is not FAILED, so it cannot be retried. See `metadata.state`. */
export class InstanceNotFailedError extends FailedPreconditionError {
  static override readonly REASON = "INSTANCE_NOT_FAILED";
}

/** No step waits for the event yet. Call `resume` with `buffer: true` to keep it for the step that will. */
export class EventNotAwaitedError extends FailedPreconditionError {
  static override readonly REASON = "EVENT_NOT_AWAITED";
}

/** No step that the instance can still reach accepts the event. */
export class EventNeverAcceptedError extends FailedPreconditionError {
  static override readonly REASON = "EVENT_NEVER_ACCEPTED";
}

/** Several steps, `stepRefs`, wait for the event. Call `resume` with `stepRef` to choose one. */
export class AmbiguousEventError extends FailedPreconditionError {
  static override readonly REASON = "AMBIGUOUS_EVENT";
}

/** The step has finished or was skipped. */
export class StepFinishedError extends FailedPreconditionError {
  static override readonly REASON = "STEP_FINISHED";
}

/** The instance took another path. The step never starts. */
export class StepUnreachableError extends FailedPreconditionError {
  static override readonly REASON = "STEP_UNREACHABLE";
}

/** The step does not declare a `timeout` transition, so a timer cannot end it. */
export class StepHasNoTimeoutError extends FailedPreconditionError {
  static override readonly REASON = "STEP_HAS_NO_TIMEOUT";
}

/** The timer is not of kind TIMEOUT. Clients can cancel only timers of this kind. */
export class TimerNotCancellableError extends FailedPreconditionError {
  static override readonly REASON = "TIMER_NOT_CANCELLABLE";
}

/** The worker no longer holds the task. Another attempt has it. */
export class LeaseLostError extends FailedPreconditionError {
  static override readonly REASON = "LEASE_LOST";
}

/** The history no longer contains these entries. Watch again without `afterRevision`. */
export class RevisionCompactedError extends OutOfRangeError {
  static override readonly REASON = "REVISION_COMPACTED";
}

/** The instance has not reached this revision. */
export class RevisionInFutureError extends OutOfRangeError {
  static override readonly REASON = "REVISION_IN_FUTURE";
}

/** The server is overloaded. The client retried until the call's timeout. */
export class OverloadedError extends ResourceExhaustedError {
  static override readonly REASON = "OVERLOADED";
}

/** The payload is larger than 1 MiB, or the instance's payloads would exceed 3 MiB. */
export class PayloadTooLargeError extends ResourceExhaustedError {
  static override readonly REASON = "PAYLOAD_TOO_LARGE";
}

/** The instance's inbox is full. */
export class InboxFullError extends ResourceExhaustedError {
  static override readonly REASON = "INBOX_FULL";
}

/** The instance has the maximum number of pending timers of `scheduleResume`. */
export class TooManyTimersError extends ResourceExhaustedError {
  static override readonly REASON = "TOO_MANY_TIMERS";
}

/** The server's database is not available. Nothing was changed. */
export class DatabaseUnavailableError extends UnavailableError {
  static override readonly REASON = "DATABASE_UNAVAILABLE";
}

/** The result of the commit is unknown. Retry with the same `requestId`: the call takes effect once. */
export class CommitUnknownError extends UnavailableError {
  static override readonly REASON = "COMMIT_UNKNOWN";
}

/** The server is shutting down. Nothing was changed. */
export class ShuttingDownError extends UnavailableError {
  static override readonly REASON = "SHUTTING_DOWN";
}

/** The server was started without a backup directory. */
export class BackupNotConfiguredError extends FailedPreconditionError {
  static override readonly REASON = "BACKUP_NOT_CONFIGURED";
}

/** The backup directory contains a file with this name. */
export class BackupAlreadyExistsError extends AlreadyExistsError {
  static override readonly REASON = "BACKUP_ALREADY_EXISTS";
}

/** The backup could not be written or verified, for example because the disk is full. No file was left behind. */
export class BackupFailedError extends UnavailableError {
  static override readonly REASON = "BACKUP_FAILED";
}

const CODE_CLASSES: readonly (typeof PerdureError)[] = [
  InvalidArgumentError,
  NotFoundError,
  AlreadyExistsError,
  FailedPreconditionError,
  OutOfRangeError,
  ResourceExhaustedError,
  UnavailableError,
  DeadlineExceededError,
  UnauthenticatedError,
  PermissionDeniedError,
  UnimplementedError,
  CallCancelledError,
];

const REASON_CLASSES: readonly (typeof PerdureError)[] = [
  InvalidFieldError,
  RequestIdReusedError,
  WorkflowInvalidError,
  InstanceNotFoundError,
  WorkflowNotFoundError,
  StepNotFoundError,
  TimerNotFoundError,
  InstanceAlreadyExistsError,
  BusinessKeyInUseError,
  InstanceEndedError,
  InstanceNotFailedError,
  EventNotAwaitedError,
  EventNeverAcceptedError,
  AmbiguousEventError,
  StepFinishedError,
  StepUnreachableError,
  StepHasNoTimeoutError,
  TimerNotCancellableError,
  LeaseLostError,
  RevisionCompactedError,
  RevisionInFutureError,
  OverloadedError,
  PayloadTooLargeError,
  InboxFullError,
  TooManyTimersError,
  DatabaseUnavailableError,
  CommitUnknownError,
  ShuttingDownError,
  BackupNotConfiguredError,
  BackupAlreadyExistsError,
  BackupFailedError,
];

const BY_CODE: ReadonlyMap<string, typeof PerdureError> = new Map(CODE_CLASSES.map((cls) => [cls.CODE, cls]));
const BY_REASON: ReadonlyMap<string, typeof PerdureError> = new Map(REASON_CLASSES.map((cls) => [cls.REASON, cls]));

/** Every error reason that has a class. */
export const REASONS: readonly string[] = [...BY_REASON.keys()];

/** Returns an error of the class of its reason. For an unknown reason, the class follows the status code. */
export function errorFrom(message: string, fields: ErrorFields): PerdureError {
  const known = BY_REASON.get(fields.reason ?? "") ?? BY_CODE.get(fields.code ?? "") ?? PerdureError;
  return new known(message, fields);
}
