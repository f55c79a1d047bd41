package dev.perdure;

/**
 * Response of {@link PerdureClient#retryInstance}: the instance continues.
 *
 * @param revision revision of the history entry that the call caused
 */
public record RetriedInstance(long revision) {}
