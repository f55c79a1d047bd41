package dev.perdure;

/** Options of a list that has no filter. */
public final class ListOptions {
    private int pageSize = PerdureClient.PAGE_SIZE;

    ListOptions() {}

    /** Sets the number of items per request, at most 1,000. Default: 100. */
    public ListOptions pageSize(int items) {
        pageSize = items;
        return this;
    }

    int pageSize() {
        return pageSize;
    }
}
