package dev.perdure;

/**
 * Response of {@link PerdureClient#fireTimer}: the timer has fired.
 *
 * @param revision revision of the history entry that the call caused
 * @param used false if the step had ended or had not started, so that the timer had no effect
 */
public record FiredTimer(long revision, boolean used) {}
