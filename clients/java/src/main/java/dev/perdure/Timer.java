package dev.perdure;

import java.time.Instant;

/**
 * Pending timer.
 *
 * @param reference ID of the timer
 * @param instanceId instance that the timer belongs to
 * @param stepRef step that the timer acts on. Can carry a suffix such as {@code @3.7}; treat it as opaque
 * @param kind effect of the timer
 * @param dueTime time at which the timer is due, by the clock of the store
 * @param owner server that has the timer in memory; empty if none has
 * @param createTime time at which the timer was armed
 * @param clientRequested true if {@code scheduleResume} armed the timer, false if the workflow did
 */
public record Timer(
        String reference,
        String instanceId,
        String stepRef,
        TimerKind kind,
        Instant dueTime,
        String owner,
        Instant createTime,
        boolean clientRequested) {}
