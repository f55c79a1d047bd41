package dev.perdure;

/** Kind of a step: the cause that ends it. */
public enum StepKind {
    /** Code runs the step, in attempts. */
    TASK,
    /** An external event or its timeout ends the step. */
    WAIT,
    /** Time ends the step, with the event {@code elapsed}. */
    SLEEP,
    /** A kind that this version of the client does not know. */
    UNKNOWN
}
