package dev.perdure;

/** Reason of a {@link PerdureException}. */
public enum ErrorReason {
    /** The error has no reason code: gRPC itself reported it, for example because no server is reachable. */
    UNSPECIFIED,
    /** One or more fields of the request are malformed. {@link PerdureException#violations()} lists all of them. */
    INVALID_FIELD,
    /** The request ID was used before, for a different request. */
    REQUEST_ID_REUSED,
    /** The graph of the workflow breaks a rule. {@link PerdureException#violations()} lists every issue. */
    WORKFLOW_INVALID,
    /** No instance has this ID. */
    INSTANCE_NOT_FOUND,
    /** The server does not have this workflow, or not this version of it. */
    WORKFLOW_NOT_FOUND,
    /** The workflow of the instance has no such step. */
    STEP_NOT_FOUND,
    /** No pending timer has this reference. It fired, was cancelled, or never existed. */
    TIMER_NOT_FOUND,
    /** Another call started an instance with this ID. */
    INSTANCE_ALREADY_EXISTS,
    /** A live instance of the workflow holds this business key. */
    BUSINESS_KEY_IN_USE,
    /** The instance has ended. A FAILED instance accepts only retry and cancel. */
    INSTANCE_ENDED,
    /** Only a FAILED instance can be retried. */
    INSTANCE_NOT_FAILED,
    /** No step waits for the event yet. Resume with {@code buffer} stores the event for the step that will. */
    EVENT_NOT_AWAITED,
    /** No step that the instance can still reach accepts the event, or the named step never does. */
    EVENT_NEVER_ACCEPTED,
    /** Several steps wait for the event. Name one of {@link PerdureException#stepRefs()}. */
    AMBIGUOUS_EVENT,
    /** The step has ended or was skipped. */
    STEP_FINISHED,
    /** The instance took another path. The step will never start. */
    STEP_UNREACHABLE,
    /** The step has no {@code timeout} transition, so no timer can end it. */
    STEP_HAS_NO_TIMEOUT,
    /** Clients can cancel only timers of kind TIMEOUT. */
    TIMER_NOT_CANCELLABLE,
    /** The task belongs to another attempt. */
    LEASE_LOST,
    /** The history no longer contains these entries. Start again with a snapshot. */
    REVISION_COMPACTED,
    /** The instance has not reached this revision. */
    REVISION_IN_FUTURE,
    /** The server has more work than it accepts. */
    OVERLOADED,
    /** A payload is larger than 1 MiB, or the payloads of the instance would exceed 3 MiB. */
    PAYLOAD_TOO_LARGE,
    /** The inbox of the instance is full. */
    INBOX_FULL,
    /** The instance has the maximum number of pending timers of scheduled resumes. */
    TOO_MANY_TIMERS,
    /** The database of the server does not respond. The call had no effect. */
    DATABASE_UNAVAILABLE,
    /** The call may or may not have taken effect. Retry it with {@link PerdureException#requestId()}. */
    COMMIT_UNKNOWN,
    /** The server is stopping. The call had no effect. */
    SHUTTING_DOWN,
    /** The server was started without a directory for backups. */
    BACKUP_NOT_CONFIGURED,
    /** The backup directory of the server contains a file of this name. */
    BACKUP_ALREADY_EXISTS,
    /** The backup could not be written or verified. No file was left behind. */
    BACKUP_FAILED,
    /** A reason of a newer server. {@link PerdureException#reasonName()} has its name. */
    UNKNOWN
}
