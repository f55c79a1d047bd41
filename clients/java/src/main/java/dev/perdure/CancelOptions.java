package dev.perdure;

/** Options of {@link PerdureClient#cancelInstance}. */
public final class CancelOptions {
    final dev.perdure.v1.CancelInstanceOptions.Builder message = dev.perdure.v1.CancelInstanceOptions.newBuilder();

    CancelOptions() {}

    /** Sets the request ID, see {@link MutationOptions#requestId}. Default: a random UUID. */
    public CancelOptions requestId(String id) {
        message.setRequestId(Arguments.required("opts.request_id", id));
        return this;
    }

    /** Sets a reason for people, stored in the history. At most 1,024 bytes. Default: empty. */
    public CancelOptions reason(String text) {
        message.setReason(Arguments.required("opts.reason", text));
        return this;
    }
}
