package dev.perdure;

import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Fact in the history of an instance. Payloads appear as size and digest.
 *
 * <p>Every {@code stepRef} can carry a suffix such as {@code @3.7}; treat it as opaque.
 *
 * <pre>{@code
 * if (entry.fact() instanceof Fact.StepFinished finished) {
 *     System.out.println(finished.stepRef() + " ended with " + finished.event());
 * }
 * }</pre>
 */
public sealed interface Fact {
    /**
     * The instance was created. Always revision 1.
     *
     * @param definitionDigest digest of the graph that the instance runs
     * @param startStep step that starts first
     * @param input size and digest of the context
     * @param startDelay start delay; empty if the instance starts at once
     */
    record InstanceStarted(
            String workflow,
            long version,
            String definitionDigest,
            String startStep,
            Optional<PayloadInfo> input,
            String businessKey,
            Map<String, String> labels,
            Optional<Duration> startDelay)
            implements Fact {}

    /**
     * A step became active.
     *
     * @param events events that the step waits for; only of a wait
     */
    record StepStarted(String stepRef, StepKind kind, List<String> events) implements Fact {}

    /**
     * A worker took an attempt of a task.
     *
     * @param attempt number of the attempt, from 1
     * @param owner server that runs the attempt or passes it to a worker
     */
    record AttemptStarted(String stepRef, long attempt, String owner) implements Fact {}

    /**
     * An attempt failed.
     *
     * @param retrying true if another attempt follows
     * @param failures number of failed attempts of the step
     */
    record AttemptFailed(
            String stepRef, long attempt, String type, String message, boolean retrying, long failures)
            implements Fact {}

    /**
     * An attempt was given back without a result. It does not count as a failure.
     *
     * @param lost true if the process that ran the attempt stopped uncleanly. After too many losses in a row, the step
     *     fails with an {@link AttemptFailed} of type {@code AttemptLost}
     */
    record AttemptReleased(String stepRef, long attempt, String reason, boolean lost) implements Fact {}

    /** A task returned SUSPEND and waits for one of {@code events}. */
    record StepSuspended(String stepRef, long attempt, List<String> events) implements Fact {}

    /**
     * A step ended with an event.
     *
     * @param targets targets of the event: refs of steps, or {@code end}
     * @param output size and digest of the output; empty if the output is the empty object
     * @param bufferedRevision revision of the {@link EventBuffered} entry that ended the step; 0 if none did
     * @param failure failure of the step; only if the event is {@code error}
     */
    record StepFinished(
            String stepRef,
            String event,
            List<String> targets,
            Optional<PayloadInfo> output,
            long bufferedRevision,
            Optional<StepFailure> failure)
            implements Fact {}

    /** A step will never start. */
    record StepSkipped(String stepRef) implements Fact {}

    /**
     * An event was accepted that no step waits for yet.
     *
     * @param stepRef step that the event is for; empty if any step that accepts it can consume it
     */
    record EventBuffered(String event, String stepRef, Optional<PayloadInfo> payload) implements Fact {}

    /**
     * A timer was armed.
     *
     * @param reference ID of the timer
     * @param clientRequested true if {@code scheduleResume} armed the timer, false if the workflow did
     */
    record TimerArmed(
            String reference,
            TimerKind kind,
            String stepRef,
            Duration delay,
            Instant dueTime,
            boolean clientRequested)
            implements Fact {}

    /**
     * A timer fired.
     *
     * @param used false if the step had ended or had not started, so that the timer had no effect
     * @param forced true if {@code fireTimer} fired it
     */
    record TimerFired(String reference, TimerKind kind, String stepRef, boolean used, boolean forced)
            implements Fact {}

    /** A client cancelled a timer. */
    record TimerCancelled(String reference, String stepRef) implements Fact {}

    /**
     * Every branch reached {@code end}.
     *
     * @param unconsumed accepted events that no step consumed
     */
    record InstanceCompleted(List<BufferedEvent> unconsumed) implements Fact {}

    /**
     * A step failed and has no {@code error} transition.
     *
     * @param interruptedSteps the other steps that were active
     */
    record InstanceFailed(String stepRef, Optional<StepFailure> failure, List<String> interruptedSteps)
            implements Fact {}

    /**
     * The instance was cancelled.
     *
     * @param reason reason that the caller gave; empty if none
     * @param unconsumed accepted events that no step consumed
     */
    record InstanceCancelled(String reason, List<BufferedEvent> unconsumed) implements Fact {}

    /** A FAILED instance was retried. Its failed and interrupted steps are active again. */
    record InstanceRetried() implements Fact {}

    /** A fact of a newer server, which this version of the client does not know. Ignore it. */
    record UnknownFact() implements Fact {}
}
