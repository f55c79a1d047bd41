package dev.perdure;

/** State of an instance. */
public enum InstanceState {
    /** The start delay has not passed. */
    PENDING,
    /** At least one step is running, queued or backing off. */
    RUNNING,
    /** No step is running or backing off, and at least one waits for an event or for time. */
    WAITING,
    /** Every branch reached {@code end}. Final. */
    COMPLETED,
    /** A step failed and has no {@code error} transition. A retry continues the instance. */
    FAILED,
    /** The instance was cancelled. Final. */
    CANCELLED,
    /** A state that this version of the client does not know. */
    UNKNOWN;

    /** Returns true for COMPLETED and CANCELLED. A FAILED instance is not final, because it can be retried. */
    public boolean isFinal() {
        return this == COMPLETED || this == CANCELLED;
    }

    /** Returns true for COMPLETED, FAILED and CANCELLED: the instance does nothing until it is retried. */
    public boolean hasEnded() {
        return isFinal() || this == FAILED;
    }
}
