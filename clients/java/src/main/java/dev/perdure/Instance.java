package dev.perdure;

import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Instance as of {@code revision}.
 *
 * @param instanceId ID of the instance
 * @param workflow name of the workflow
 * @param version version of the workflow
 * @param state state of the instance
 * @param revision revision of the newest history entry
 * @param input context that the instance was started with
 * @param outputs output of each step that ended with one, by step ref, in the order in which the steps ended
 * @param activeSteps steps that have not ended, sorted by step ref
 * @param stepResults steps that have ended or will never start, sorted by revision
 * @param error cause of the failure; empty unless the instance is FAILED, or was when it was cancelled
 * @param labels labels given at the start
 * @param businessKey business key given at the start; empty if none
 * @param inbox accepted events that no step has consumed, in order of acceptance
 * @param createTime time at which the instance was stored
 * @param startTime end of the start delay; empty while PENDING
 * @param updateTime time of the newest history entry
 * @param endTime time at which the instance completed, failed or was cancelled; empty until then
 */
public record Instance(
        String instanceId,
        String workflow,
        long version,
        InstanceState state,
        long revision,
        RawJson input,
        Map<String, RawJson> outputs,
        List<ActiveStep> activeSteps,
        List<StepResult> stepResults,
        Optional<InstanceFailure> error,
        Map<String, String> labels,
        String businessKey,
        List<BufferedEvent> inbox,
        Instant createTime,
        Optional<Instant> startTime,
        Instant updateTime,
        Optional<Instant> endTime) {}
