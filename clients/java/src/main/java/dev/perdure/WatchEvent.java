package dev.perdure;

/** Event of a {@link Watch}. */
public sealed interface WatchEvent {
    /** Returns the revision up to which the watch has returned every entry. */
    long revision();

    /** First event, unless the watch continues after a revision: the current instance. */
    record Snapshot(Instance instance) implements WatchEvent {
        @Override
        public long revision() {
            return instance.revision();
        }
    }

    /** Next entry of the history. Ignore a {@link Fact.UnknownFact}. */
    record Entry(HistoryEntry entry) implements WatchEvent {
        @Override
        public long revision() {
            return entry.revision();
        }
    }

    /** Last event: the instance has ended. A FAILED instance can be retried; start another watch then. */
    record End(long revision, WatchEndReason reason) implements WatchEvent {}
}
