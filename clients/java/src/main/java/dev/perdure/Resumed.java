package dev.perdure;

/**
 * Response of {@link PerdureClient#resume}: the event is stored.
 *
 * @param disposition result: delivered or buffered
 * @param stepRef step that consumed the event or that it is buffered for; empty if any step can consume it. Can carry a
 *     suffix such as {@code @3.7}; treat it as opaque
 * @param revision revision at which the event was accepted
 */
public record Resumed(Disposition disposition, String stepRef, long revision) {}
