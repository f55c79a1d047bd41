package dev.perdure;

/** State of a step of an instance. */
public enum StepState {
    /** A task that no worker has taken yet. */
    QUEUED,
    /** A task that no worker has code for. */
    NO_WORKER,
    /** A worker runs an attempt. */
    RUNNING,
    /** An attempt failed. The next one starts at the deadline. */
    BACKING_OFF,
    /** Waits for an event, at most until the deadline if there is one. */
    WAITING,
    /** Ends at the deadline. */
    SLEEPING,
    /** Was active when the instance failed or was cancelled. Retrying a failed instance continues the step. */
    INTERRUPTED,
    /** Ended with an event. */
    FINISHED,
    /** Will never start. */
    SKIPPED,
    /** A branch has arrived, and the step waits for others. Also the first step of a PENDING instance. */
    JOINING,
    /** The failure of this step failed the instance. */
    FAILED,
    /** A state that this version of the client does not know. */
    UNKNOWN
}
