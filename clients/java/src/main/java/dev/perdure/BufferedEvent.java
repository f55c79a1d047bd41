package dev.perdure;

import java.util.Optional;

/**
 * Accepted event that no step has consumed.
 *
 * @param event name of the event
 * @param stepRef step that the event is for, or empty if any step that accepts it can consume it. Can carry a suffix
 *     such as {@code @3.7}; treat it as opaque
 * @param revision revision at which the event was accepted
 * @param payload size and digest of the payload
 */
public record BufferedEvent(String event, String stepRef, long revision, Optional<PayloadInfo> payload) {}
