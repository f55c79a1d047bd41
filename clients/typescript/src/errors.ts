/**
 * Every error that a call can end with: one class per reason of the API, under one class per gRPC status.
 *
 * What lives here: the classes, their fields, and the table from reasons to classes. What may not: gRPC; `status.ts`
 * reads its errors and makes these.
 */

/** One thing that is wrong with a request: the field, by its path, and what it should be. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** What was not found or stands in the way: its type (`instance`, `workflow`, ...) and its name. */
export interface Resource {
  readonly type: string;
  readonly name: string;
}

/** What an error knows beside its message. */
export interface ErrorFields {
  readonly status?: string | undefined;
  readonly reason?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly violations?: readonly FieldViolation[] | undefined;
  readonly resource?: Resource | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly requestId?: string | undefined;
  readonly cause?: unknown;
}

/** A call that did not succeed. */
export class PerdureError extends Error {
  /** The gRPC status that the error travelled with, such as `NOT_FOUND`. */
  readonly status: string;
  /** The API's word for why, such as `INSTANCE_NOT_FOUND`; empty where gRPC itself refused. */
  readonly reason: string;
  /** What the reason is about. */
  readonly metadata: Readonly<Record<string, string>>;
  /** All the fields that are wrong, at once. */
  readonly violations: readonly FieldViolation[];
  /** What was missing or in the way. */
  readonly resource: Resource | undefined;
  /** The pause that the server asks for. */
  readonly retryAfterMs: number | undefined;
  /** The one that the call was sent with; empty for reads. Calling again with it cannot take effect twice. */
  readonly requestId: string;

  constructor(message: string, fields: ErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    const known = new.target as typeof PerdureError;
    this.status = fields.status ?? known.STATUS;
    this.reason = fields.reason ?? known.REASON;
    this.metadata = fields.metadata ?? {};
    this.violations = fields.violations ?? [];
    this.resource = fields.resource;
    this.retryAfterMs = fields.retryAfterMs;
    this.requestId = fields.requestId ?? "";
  }

  /** The gRPC status of the class. */
  static readonly STATUS: string = "UNKNOWN";
  /** The reason of the class; empty for the classes that stand for a status. */
  static readonly REASON: string = "";

  override get name(): string {
    return this.constructor.name;
  }

  /** Whether the same call, with the same request id, may succeed a little later. */
  get retryable(): boolean {
    return this.status === "UNAVAILABLE" || this.status === "CANCELLED" || this.reason === "OVERLOADED";
  }

  /** The steps that the error names: those that an event is ambiguous between, say. */
  get stepRefs(): readonly string[] {
    // An error about one step may tell beside it which steps there are; the one comes first then.
    return ["step_ref", "step_refs", "steps"]
      .flatMap((key) => (this.metadata[key] ?? "").split(","))
      .map((ref) => ref.trim())
      .filter((ref) => ref !== "");
  }

  /** The instance that the error is about; empty where it names none. */
  get instanceId(): string {
    const type = this.resource?.type.split(".").at(-1)?.toLowerCase();
    return type === "instance" ? (this.resource?.name ?? "") : (this.metadata["instance_id"] ?? "");
  }
}

// --- by gRPC status ---

/** The request itself is wrong, whatever state anything is in. */
export class InvalidArgumentError extends PerdureError {
  static override readonly STATUS: string = "INVALID_ARGUMENT";
}

/** What the request names does not exist. */
export class NotFoundError extends PerdureError {
  static override readonly STATUS: string = "NOT_FOUND";
}

/** What the request would create exists. */
export class AlreadyExistsError extends PerdureError {
  static override readonly STATUS: string = "ALREADY_EXISTS";
}

/** The instance, step or timer is in no state for this request. */
export class FailedPreconditionError extends PerdureError {
  static override readonly STATUS: string = "FAILED_PRECONDITION";
}

/** The revision asked for is not, or no longer, in the history. */
export class OutOfRangeError extends PerdureError {
  static override readonly STATUS: string = "OUT_OF_RANGE";
}

/** A limit is reached. */
export class ResourceExhaustedError extends PerdureError {
  static override readonly STATUS: string = "RESOURCE_EXHAUSTED";
}

/** The server cannot be reached or cannot work now; the client has retried for as long as the call may take. */
export class UnavailableError extends PerdureError {
  static override readonly STATUS: string = "UNAVAILABLE";
}

/** The answer did not come in time. The call may have taken effect; sending it again with `requestId` tells. */
export class DeadlineExceededError extends PerdureError {
  static override readonly STATUS: string = "DEADLINE_EXCEEDED";
}

/** The server does not know who calls. */
export class UnauthenticatedError extends PerdureError {
  static override readonly STATUS: string = "UNAUTHENTICATED";
}

/** The caller may not do this. */
export class PermissionDeniedError extends PerdureError {
  static override readonly STATUS: string = "PERMISSION_DENIED";
}

/** The server does not have this method: it is older than the client, or no perdure server. */
export class UnimplementedError extends PerdureError {
  static override readonly STATUS: string = "UNIMPLEMENTED";
}

/** Somebody between client and server broke the call off. */
export class CallCancelledError extends PerdureError {
  static override readonly STATUS: string = "CANCELLED";
}

// --- by reason ---

/** Fields of the request are malformed; `violations` lists them all. */
export class InvalidFieldError extends InvalidArgumentError {
  static override readonly REASON = "INVALID_FIELD";
}

/** The request id was used before, for another request. */
export class RequestIdReusedError extends InvalidArgumentError {
  static override readonly REASON = "REQUEST_ID_REUSED";
}

/** The workflow's graph breaks a rule; `violations` lists every finding. */
export class WorkflowInvalidError extends InvalidArgumentError {
  static override readonly REASON = "WORKFLOW_INVALID";
}

/** No instance has this id. */
export class InstanceNotFoundError extends NotFoundError {
  static override readonly REASON = "INSTANCE_NOT_FOUND";
}

/** The server has no workflow of this name, or not this version of it. */
export class WorkflowNotFoundError extends NotFoundError {
  static override readonly REASON = "WORKFLOW_NOT_FOUND";
}

/** The instance's workflow has no such step. */
export class StepNotFoundError extends NotFoundError {
  static override readonly REASON = "STEP_NOT_FOUND";
}

/** No pending timer has this reference: it has fired, was cancelled, or never was. */
export class TimerNotFoundError extends NotFoundError {
  static override readonly REASON = "TIMER_NOT_FOUND";
}

/** Another call started an instance with this id. */
export class InstanceAlreadyExistsError extends AlreadyExistsError {
  static override readonly REASON = "INSTANCE_ALREADY_EXISTS";
}

/** A live instance of the workflow, `instanceId`, holds this business key. */
export class BusinessKeyInUseError extends AlreadyExistsError {
  static override readonly REASON = "BUSINESS_KEY_IN_USE";
}

/** The instance has ended; `metadata.state` says how. */
export class InstanceEndedError extends FailedPreconditionError {
  static override readonly REASON = "INSTANCE_ENDED";
}

/** Only a FAILED instance can be retried; `metadata.state` is what it is. */
export class InstanceNotFailedError extends FailedPreconditionError {
  static override readonly REASON = "INSTANCE_NOT_FAILED";
}

/** No step waits for the event yet; `resume` with `buffer: true` leaves it for the step that will. */
export class EventNotAwaitedError extends FailedPreconditionError {
  static override readonly REASON = "EVENT_NOT_AWAITED";
}

/** No step that the instance can still reach accepts the event. */
export class EventNeverAcceptedError extends FailedPreconditionError {
  static override readonly REASON = "EVENT_NEVER_ACCEPTED";
}

/** Several steps, `stepRefs`, wait for the event; `resume` with `stepRef` picks one. */
export class AmbiguousEventError extends FailedPreconditionError {
  static override readonly REASON = "AMBIGUOUS_EVENT";
}

/** The step has ended already, or was skipped. */
export class StepFinishedError extends FailedPreconditionError {
  static override readonly REASON = "STEP_FINISHED";
}

/** The instance took another path; the step will never begin. */
export class StepUnreachableError extends FailedPreconditionError {
  static override readonly REASON = "STEP_UNREACHABLE";
}

/** The step declares no `timeout` arrow, so no timer can end it. */
export class StepHasNoTimeoutError extends FailedPreconditionError {
  static override readonly REASON = "STEP_HAS_NO_TIMEOUT";
}

/** Only timers of kind TIMEOUT can be cancelled by a client. */
export class TimerNotCancellableError extends FailedPreconditionError {
  static override readonly REASON = "TIMER_NOT_CANCELLABLE";
}

/** The task belongs to another attempt by now. */
export class LeaseLostError extends FailedPreconditionError {
  static override readonly REASON = "LEASE_LOST";
}

/** The history no longer holds these entries; begin again with a snapshot. */
export class RevisionCompactedError extends OutOfRangeError {
  static override readonly REASON = "REVISION_COMPACTED";
}

/** The instance has not reached this revision. */
export class RevisionInFutureError extends OutOfRangeError {
  static override readonly REASON = "REVISION_IN_FUTURE";
}

/** The server has more work than it takes on; the client has retried for as long as the call may take. */
export class OverloadedError extends ResourceExhaustedError {
  static override readonly REASON = "OVERLOADED";
}

/** A payload is over 1 MiB, or the instance's payloads would be over 3 MiB. */
export class PayloadTooLargeError extends ResourceExhaustedError {
  static override readonly REASON = "PAYLOAD_TOO_LARGE";
}

/** The instance's inbox holds as many events as it may. */
export class InboxFullError extends ResourceExhaustedError {
  static override readonly REASON = "INBOX_FULL";
}

/** The instance has as many requested timers as it may. */
export class TooManyTimersError extends ResourceExhaustedError {
  static override readonly REASON = "TOO_MANY_TIMERS";
}

/** The server's database does not answer; nothing was changed. */
export class DatabaseUnavailableError extends UnavailableError {
  static override readonly REASON = "DATABASE_UNAVAILABLE";
}

/** The call may have taken effect; sending it again with `requestId` tells. */
export class CommitUnknownError extends UnavailableError {
  static override readonly REASON = "COMMIT_UNKNOWN";
}

/** The server is going away; nothing was changed. */
export class ShuttingDownError extends UnavailableError {
  static override readonly REASON = "SHUTTING_DOWN";
}

/** The server was started without a directory for backups. */
export class BackupNotConfiguredError extends FailedPreconditionError {
  static override readonly REASON = "BACKUP_NOT_CONFIGURED";
}

/** The server's directory for backups contains a file of this name. */
export class BackupAlreadyExistsError extends AlreadyExistsError {
  static override readonly REASON = "BACKUP_ALREADY_EXISTS";
}

/** The backup could not be written or verified, for example because the disk is full. No file was left behind. */
export class BackupFailedError extends UnavailableError {
  static override readonly REASON = "BACKUP_FAILED";
}

const FAMILIES: readonly (typeof PerdureError)[] = [
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

const LEAVES: readonly (typeof PerdureError)[] = [
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

const BY_STATUS: ReadonlyMap<string, typeof PerdureError> = new Map(FAMILIES.map((cls) => [cls.STATUS, cls]));
const BY_REASON: ReadonlyMap<string, typeof PerdureError> = new Map(LEAVES.map((cls) => [cls.REASON, cls]));

/** Every reason that has a class of its own. */
export const REASONS: readonly string[] = [...BY_REASON.keys()];

/** Makes the error of a reason. A reason that this version does not know becomes its status' class. */
export function errorFrom(message: string, fields: ErrorFields): PerdureError {
  const known = BY_REASON.get(fields.reason ?? "") ?? BY_STATUS.get(fields.status ?? "") ?? PerdureError;
  return new known(message, fields);
}
