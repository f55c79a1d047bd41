package dev.perdure;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Step in the graph of a workflow.
 *
 * @param stepRef name of the step, unique in the workflow. Refs that instances, timers and histories return can carry
 *     a suffix such as {@code @3.7}; treat them as opaque
 * @param kind kind of the step
 * @param on targets of each event, sorted by event: refs of steps, or {@code end}. Several targets run in parallel
 * @param events external events that end the step, sorted by name
 * @param join condition for starting the step if it has several predecessors
 * @param retry retry policy; only of a task
 * @param attemptTimeout maximum duration of an attempt; empty means no limit
 * @param waitTimeout duration after which a waiting step ends with {@code timeout}; empty means no limit
 * @param sleep duration of a sleep; only of a sleep
 */
public record StepDefinition(
        String stepRef,
        StepKind kind,
        Map<String, List<String>> on,
        List<String> events,
        JoinRule join,
        Optional<RetryPolicy> retry,
        Optional<Duration> attemptTimeout,
        Optional<Duration> waitTimeout,
        Optional<Duration> sleep) {}
