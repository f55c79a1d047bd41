package dev.perdure;

/**
 * Response of {@link PerdureClient#cancelInstance}.
 *
 * @param revision revision of the cancellation. Nothing happens to the instance after it
 */
public record CancelledInstance(long revision) {}
