package dev.perdure;

import java.time.Instant;

/**
 * Entry of the history of an instance. The entries of an instance have the revisions 1, 2, 3 and so on, without a gap,
 * and never change.
 *
 * @param revision revision of the entry, from 1
 * @param time time of the entry, by the clock of the store. The clock can be set back between two entries
 * @param kind name of the fact in the API, such as {@code step_finished}; empty for an {@link Fact.UnknownFact}
 * @param fact the fact
 * @param requestId request ID of the call that caused the entry; empty if no call did
 */
public record HistoryEntry(long revision, Instant time, String kind, Fact fact, String requestId) {}
