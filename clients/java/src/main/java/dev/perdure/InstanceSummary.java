package dev.perdure;

import java.time.Instant;
import java.util.Map;
import java.util.Optional;

/**
 * Instance in a list, without payloads and steps.
 *
 * @param instanceId ID of the instance
 * @param workflow name of the workflow
 * @param version version of the workflow
 * @param state state of the instance
 * @param revision revision of the newest history entry
 * @param businessKey business key given at the start; empty if none
 * @param labels labels given at the start
 * @param createTime time at which the instance was stored
 * @param updateTime time of the newest history entry
 * @param endTime time at which the instance completed, failed or was cancelled; empty until then
 * @param inboxSize number of accepted events that no step has consumed
 */
public record InstanceSummary(
        String instanceId,
        String workflow,
        long version,
        InstanceState state,
        long revision,
        String businessKey,
        Map<String, String> labels,
        Instant createTime,
        Instant updateTime,
        Optional<Instant> endTime,
        long inboxSize) {}
