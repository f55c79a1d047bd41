package dev.perdure;

import java.time.Instant;

/**
 * Response of {@link PerdureClient#scheduleResume}: the timer is stored.
 *
 * @param reference ID of the timer
 * @param dueTime time at which the timer is due, by the clock of the store. It never fires earlier
 * @param revision revision of the history entry that the call caused
 */
public record ScheduledResume(String reference, Instant dueTime, long revision) {}
