package dev.perdure;

/**
 * Response of {@link PerdureClient#cancelTimer}: the timer will not fire.
 *
 * @param revision revision of the history entry that the call caused
 */
public record CancelledTimer(long revision) {}
