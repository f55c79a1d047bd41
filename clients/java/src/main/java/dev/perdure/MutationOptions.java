package dev.perdure;

/** Options of a call that writes and has no other options. */
public final class MutationOptions {
    private String requestId = "";

    MutationOptions() {}

    /**
     * Sets the request ID: 1 to 128 printable ASCII characters without spaces. If you repeat a call with the same
     * request ID, it takes effect once and returns the first response. Default: a random UUID.
     */
    public MutationOptions requestId(String id) {
        requestId = Arguments.required("opts.request_id", id);
        return this;
    }

    String requestId() {
        return requestId;
    }
}
