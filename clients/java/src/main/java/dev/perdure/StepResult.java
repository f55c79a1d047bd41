package dev.perdure;

/**
 * Step that has ended or will never start.
 *
 * @param stepRef the step. Can carry a suffix such as {@code @3.7}; treat it as opaque
 * @param state FINISHED, SKIPPED, INTERRUPTED or FAILED
 * @param event event that ended the step; empty unless FINISHED
 * @param revision revision at which the result was decided
 */
public record StepResult(String stepRef, StepState state, String event, long revision) {}
