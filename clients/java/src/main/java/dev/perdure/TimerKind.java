package dev.perdure;

/** Effect of a timer when it fires. */
public enum TimerKind {
    /** Ends the start delay of the instance. */
    START,
    /** Ends its step with the event {@code timeout}. Armed by a wait timeout or by a scheduled resume. */
    TIMEOUT,
    /** Ends a sleep with the event {@code elapsed}. */
    SLEEP,
    /** Ends a backoff, so that the next attempt is queued. */
    RETRY,
    /** A kind that this version of the client does not know. */
    UNKNOWN
}
