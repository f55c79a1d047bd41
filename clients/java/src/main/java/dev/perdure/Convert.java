package dev.perdure;

import com.google.protobuf.Timestamp;
import dev.perdure.v1.Payload;
import dev.perdure.v1.Transition;
import dev.perdure.v1.Workflow;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** Conversion of the messages of the API to the records of this package. No I/O. */
final class Convert {
    private Convert() {}

    // --- values -----------------------------------------------------------------------------------------------------

    /** Returns the constant with this name, or {@code unknown}. */
    static <E extends Enum<E>> E named(Class<E> type, String name, E unknown) {
        try {
            return Enum.valueOf(type, name);
        } catch (IllegalArgumentException newerServer) {
            return unknown;
        }
    }

    /** Returns the constant for an enum value of a message: its name without the prefix, UNKNOWN if there is none. */
    static <E extends Enum<E>> E named(Class<E> type, Enum<?> value, String prefix) {
        E unknown = Enum.valueOf(type, "UNKNOWN");
        String name = value.name();
        return name.startsWith(prefix) ? named(type, name.substring(prefix.length()), unknown) : unknown;
    }

    static Instant instant(Timestamp time) {
        return Instant.ofEpochSecond(time.getSeconds(), time.getNanos());
    }

    static Duration duration(com.google.protobuf.Duration duration) {
        return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
    }

    private static Optional<Instant> ifSet(boolean set, Timestamp time) {
        return set ? Optional.of(instant(time)) : Optional.empty();
    }

    private static Optional<Duration> ifSet(boolean set, com.google.protobuf.Duration duration) {
        return set ? Optional.of(duration(duration)) : Optional.empty();
    }

    private static long unsigned(int uint32) {
        return Integer.toUnsignedLong(uint32);
    }

    // --- payloads ---------------------------------------------------------------------------------------------------

    /** Returns the JSON text of a payload; {@code null} for one without a body. */
    static RawJson json(Payload payload) {
        return new RawJson(payload.hasJson() ? payload.getJson() : "null");
    }

    private static Optional<PayloadInfo> payloadInfo(boolean set, dev.perdure.v1.PayloadInfo info) {
        return set ? Optional.of(new PayloadInfo(info.getSizeBytes(), info.getDigest())) : Optional.empty();
    }

    private static Optional<StepFailure> failure(boolean set, dev.perdure.v1.StepFailure failure) {
        return set
                ? Optional.of(new StepFailure(failure.getType(), failure.getMessage(), unsigned(failure.getAttempts())))
                : Optional.empty();
    }

    private static List<BufferedEvent> buffered(List<dev.perdure.v1.BufferedEvent> events) {
        return events.stream()
                .map(event -> new BufferedEvent(
                        event.getEvent(),
                        event.getStepRef(),
                        event.getRevision(),
                        payloadInfo(event.hasPayload(), event.getPayload())))
                .toList();
    }

    // --- instances --------------------------------------------------------------------------------------------------

    static Instance instance(dev.perdure.v1.Instance message) {
        List<StepResult> results = message.getStepResultsList().stream().map(Convert::stepResult).toList();
        Optional<InstanceFailure> error = message.hasError()
                ? Optional.of(new InstanceFailure(
                        message.getError().getStepRef(),
                        message.getError().getType(),
                        message.getError().getMessage(),
                        unsigned(message.getError().getAttempts())))
                : Optional.empty();
        return new Instance(
                message.getInstanceId(),
                message.getWorkflow(),
                unsigned(message.getVersion()),
                instanceState(message.getState()),
                message.getRevision(),
                json(message.getInput()),
                outputs(message.getOutputsMap(), results),
                message.getActiveStepsList().stream().map(Convert::activeStep).toList(),
                results,
                error,
                Map.copyOf(message.getLabelsMap()),
                message.getBusinessKey(),
                buffered(message.getInboxList()),
                instant(message.getCreateTime()),
                ifSet(message.hasStartTime(), message.getStartTime()),
                instant(message.getUpdateTime()),
                ifSet(message.hasEndTime(), message.getEndTime()));
    }

    /** Returns the outputs in the order in which their steps ended: a map in a message has no order. */
    private static Map<String, RawJson> outputs(Map<String, Payload> outputs, List<StepResult> results) {
        List<String> refs = new ArrayList<>(results.stream().map(StepResult::stepRef).toList());
        refs.addAll(outputs.keySet());
        Map<String, RawJson> found = new LinkedHashMap<>();
        for (String ref : refs) {
            if (outputs.containsKey(ref)) {
                found.putIfAbsent(ref, json(outputs.get(ref)));
            }
        }
        return Collections.unmodifiableMap(found);
    }

    private static ActiveStep activeStep(dev.perdure.v1.ActiveStep step) {
        return new ActiveStep(
                step.getStepRef(),
                stepState(step.getState()),
                unsigned(step.getAttempt()),
                List.copyOf(step.getEventsList()),
                ifSet(step.hasDeadline(), step.getDeadline()),
                failure(step.hasLastFailure(), step.getLastFailure()),
                ifSet(step.hasAttemptStartTime(), step.getAttemptStartTime()),
                unsigned(step.getLostAttempts()));
    }

    private static StepResult stepResult(dev.perdure.v1.StepResult result) {
        return new StepResult(
                result.getStepRef(), stepState(result.getState()), result.getEvent(), result.getRevision());
    }

    static InstanceSummary instanceSummary(dev.perdure.v1.InstanceSummary message) {
        return new InstanceSummary(
                message.getInstanceId(),
                message.getWorkflow(),
                unsigned(message.getVersion()),
                instanceState(message.getState()),
                message.getRevision(),
                message.getBusinessKey(),
                Map.copyOf(message.getLabelsMap()),
                instant(message.getCreateTime()),
                instant(message.getUpdateTime()),
                ifSet(message.hasEndTime(), message.getEndTime()),
                unsigned(message.getInboxSize()));
    }

    private static InstanceState instanceState(dev.perdure.v1.InstanceState state) {
        return named(InstanceState.class, state, "INSTANCE_STATE_");
    }

    private static StepState stepState(dev.perdure.v1.StepState state) {
        return named(StepState.class, state, "STEP_STATE_");
    }

    static WatchEndReason watchEndReason(dev.perdure.v1.WatchEndReason reason) {
        return named(WatchEndReason.class, reason, "WATCH_END_REASON_");
    }

    static Disposition disposition(dev.perdure.v1.Disposition disposition) {
        return named(Disposition.class, disposition, "DISPOSITION_");
    }

    // --- history ----------------------------------------------------------------------------------------------------

    static HistoryEntry entry(dev.perdure.v1.HistoryEntry message) {
        Fact fact = fact(message);
        String kind = fact instanceof Fact.UnknownFact ? "" : message.getFactCase().name().toLowerCase(Locale.ROOT);
        return new HistoryEntry(
                message.getRevision(), instant(message.getTime()), kind, fact, message.getRequestId());
    }

    private static Fact fact(dev.perdure.v1.HistoryEntry message) {
        switch (message.getFactCase()) {
            case INSTANCE_STARTED -> {
                var started = message.getInstanceStarted();
                return new Fact.InstanceStarted(
                        started.getWorkflow(),
                        unsigned(started.getVersion()),
                        started.getDefinitionDigest(),
                        started.getStartStep(),
                        payloadInfo(started.hasInput(), started.getInput()),
                        started.getBusinessKey(),
                        Map.copyOf(started.getLabelsMap()),
                        ifSet(started.hasStartDelay(), started.getStartDelay()));
            }
            case STEP_STARTED -> {
                var started = message.getStepStarted();
                return new Fact.StepStarted(
                        started.getStepRef(), stepKind(started.getKind()), List.copyOf(started.getEventsList()));
            }
            case ATTEMPT_STARTED -> {
                var started = message.getAttemptStarted();
                return new Fact.AttemptStarted(
                        started.getStepRef(), unsigned(started.getAttempt()), started.getOwner());
            }
            case ATTEMPT_FAILED -> {
                var failed = message.getAttemptFailed();
                return new Fact.AttemptFailed(
                        failed.getStepRef(),
                        unsigned(failed.getAttempt()),
                        failed.getType(),
                        failed.getMessage(),
                        failed.getRetrying(),
                        unsigned(failed.getFailures()));
            }
            case ATTEMPT_RELEASED -> {
                var released = message.getAttemptReleased();
                return new Fact.AttemptReleased(
                        released.getStepRef(),
                        unsigned(released.getAttempt()),
                        released.getReason(),
                        released.getLost());
            }
            case STEP_SUSPENDED -> {
                var suspended = message.getStepSuspended();
                return new Fact.StepSuspended(
                        suspended.getStepRef(),
                        unsigned(suspended.getAttempt()),
                        List.copyOf(suspended.getEventsList()));
            }
            case STEP_FINISHED -> {
                var finished = message.getStepFinished();
                return new Fact.StepFinished(
                        finished.getStepRef(),
                        finished.getEvent(),
                        List.copyOf(finished.getTargetsList()),
                        payloadInfo(finished.hasOutput(), finished.getOutput()),
                        finished.getBufferedRevision(),
                        failure(finished.hasFailure(), finished.getFailure()));
            }
            case STEP_SKIPPED -> {
                return new Fact.StepSkipped(message.getStepSkipped().getStepRef());
            }
            case EVENT_BUFFERED -> {
                var buffered = message.getEventBuffered();
                return new Fact.EventBuffered(
                        buffered.getEvent(),
                        buffered.getStepRef(),
                        payloadInfo(buffered.hasPayload(), buffered.getPayload()));
            }
            case TIMER_ARMED -> {
                var armed = message.getTimerArmed();
                return new Fact.TimerArmed(
                        armed.getReference(),
                        timerKind(armed.getKind()),
                        armed.getStepRef(),
                        duration(armed.getDelay()),
                        instant(armed.getDueTime()),
                        armed.getClientRequested());
            }
            case TIMER_FIRED -> {
                var fired = message.getTimerFired();
                return new Fact.TimerFired(
                        fired.getReference(),
                        timerKind(fired.getKind()),
                        fired.getStepRef(),
                        fired.getUsed(),
                        fired.getForced());
            }
            case TIMER_CANCELLED -> {
                var cancelled = message.getTimerCancelled();
                return new Fact.TimerCancelled(cancelled.getReference(), cancelled.getStepRef());
            }
            case INSTANCE_COMPLETED -> {
                return new Fact.InstanceCompleted(buffered(message.getInstanceCompleted().getUnconsumedList()));
            }
            case INSTANCE_FAILED -> {
                var failed = message.getInstanceFailed();
                return new Fact.InstanceFailed(
                        failed.getStepRef(),
                        failure(failed.hasFailure(), failed.getFailure()),
                        List.copyOf(failed.getInterruptedStepsList()));
            }
            case INSTANCE_CANCELLED -> {
                var cancelled = message.getInstanceCancelled();
                return new Fact.InstanceCancelled(cancelled.getReason(), buffered(cancelled.getUnconsumedList()));
            }
            case INSTANCE_RETRIED -> {
                return new Fact.InstanceRetried();
            }
            default -> {
                return new Fact.UnknownFact();
            }
        }
    }

    private static StepKind stepKind(dev.perdure.v1.StepKind kind) {
        return named(StepKind.class, kind, "STEP_KIND_");
    }

    private static TimerKind timerKind(dev.perdure.v1.TimerKind kind) {
        return named(TimerKind.class, kind, "TIMER_KIND_");
    }

    // --- timers, workflows, server ----------------------------------------------------------------------------------

    static Timer timer(dev.perdure.v1.Timer message) {
        return new Timer(
                message.getReference(),
                message.getInstanceId(),
                message.getStepRef(),
                timerKind(message.getKind()),
                instant(message.getDueTime()),
                message.getOwner(),
                instant(message.getCreateTime()),
                message.getClientRequested());
    }

    static WorkflowVersion workflow(Workflow message) {
        return new WorkflowVersion(
                message.getName(),
                unsigned(message.getVersion()),
                message.getDigest(),
                message.getStart(),
                message.getStepsList().stream().map(Convert::step).toList(),
                instant(message.getCreateTime()));
    }

    private static StepDefinition step(dev.perdure.v1.StepDefinition step) {
        Map<String, List<String>> on = new LinkedHashMap<>();
        for (Transition transition : step.getTransitionsList()) {
            on.put(transition.getEvent(), List.copyOf(transition.getTargetsList()));
        }
        return new StepDefinition(
                step.getStepRef(),
                stepKind(step.getKind()),
                Collections.unmodifiableMap(on),
                List.copyOf(step.getEventsList()),
                named(JoinRule.class, step.getJoin(), "JOIN_RULE_"),
                step.hasRetry() ? Optional.of(retry(step.getRetry())) : Optional.empty(),
                ifSet(step.hasAttemptTimeout(), step.getAttemptTimeout()),
                ifSet(step.hasWaitTimeout(), step.getWaitTimeout()),
                ifSet(step.hasSleep(), step.getSleep()));
    }

    private static RetryPolicy retry(dev.perdure.v1.RetryPolicy retry) {
        return new RetryPolicy(
                unsigned(retry.getMaxAttempts()),
                duration(retry.getInitialBackoff()),
                duration(retry.getMaxBackoff()),
                retry.getMultiplier(),
                retry.getJitter());
    }

    static WorkflowSummary workflowSummary(dev.perdure.v1.WorkflowSummary message) {
        return new WorkflowSummary(
                message.getName(),
                unsigned(message.getVersion()),
                message.getDigest(),
                unsigned(message.getStepCount()),
                instant(message.getCreateTime()));
    }

    static Health health(ServingStatus status) {
        return named(Health.class, status, "");
    }
}
