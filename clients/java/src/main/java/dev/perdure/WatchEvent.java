package dev.perdure;

import dev.perdure.v1.HistoryEntry;
import dev.perdure.v1.Instance;
import dev.perdure.v1.WatchEnd;

/** One thing that a {@link Watch} says. */
public sealed interface WatchEvent {
    /** The revision up to which everything has been told, this included. */
    long revision();

    /** The first thing, unless the watch goes on after a revision: the instance as it is. */
    record Snapshot(Instance instance) implements WatchEvent {
        @Override
        public long revision() {
            return instance.getRevision();
        }
    }

    /** The next entry of the history. A fact that this version does not know is {@code FACT_NOT_SET}: pass over it. */
    record Entry(HistoryEntry entry) implements WatchEvent {
        @Override
        public long revision() {
            return entry.getRevision();
        }
    }

    /** The last thing: the instance has ended. A FAILED one may be retried; watch it anew then. */
    record End(WatchEnd end) implements WatchEvent {
        @Override
        public long revision() {
            return end.getRevision();
        }
    }
}
