package dev.perdure;

/** Condition for starting a step that has several predecessors. */
public enum JoinRule {
    /** Start once every branch that can still reach the step has arrived. */
    AUTO,
    /** Start once every predecessor has arrived. The step is skipped if one of them cannot arrive. */
    ALL,
    /** Start once the first branch arrives. Later arrivals are ignored. */
    ANY,
    /** A rule that this version of the client does not know. */
    UNKNOWN
}
