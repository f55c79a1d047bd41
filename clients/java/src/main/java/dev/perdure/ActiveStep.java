package dev.perdure;

import java.time.Instant;
import java.util.List;
import java.util.Optional;

/**
 * Step that has not ended.
 *
 * @param stepRef the step. Can carry a suffix such as {@code @3.7}; treat it as opaque
 * @param state state of the step
 * @param attempt newest attempt, from 1; 0 if there was none
 * @param events external events that the step waits for, sorted by name
 * @param deadline time at which a timer acts on the step; empty if no timer is armed
 * @param lastFailure newest failed attempt; empty if none has failed
 * @param attemptStartTime start of the newest attempt; empty if there was none
 * @param lostAttempts number of attempts in a row that were lost together with the process that ran them
 */
public record ActiveStep(
        String stepRef,
        StepState state,
        long attempt,
        List<String> events,
        Optional<Instant> deadline,
        Optional<StepFailure> lastFailure,
        Optional<Instant> attemptStartTime,
        long lostAttempts) {}
