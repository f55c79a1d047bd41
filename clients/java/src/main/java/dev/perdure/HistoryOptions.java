package dev.perdure;

/** Options of {@link PerdureClient#listHistory}. */
public final class HistoryOptions {
    final dev.perdure.v1.ListHistoryRequest.Builder message =
            dev.perdure.v1.ListHistoryRequest.newBuilder().setPageSize(PerdureClient.PAGE_SIZE);

    HistoryOptions() {}

    /** Lists only entries after this revision. Default: 0, all entries. */
    public HistoryOptions afterRevision(long revision) {
        message.setAfterRevision(revision);
        return this;
    }

    /** Sets the number of entries per request, at most 1,000. Default: 100. */
    public HistoryOptions pageSize(int entries) {
        message.setPageSize(entries);
        return this;
    }
}
