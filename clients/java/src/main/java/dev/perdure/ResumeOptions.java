package dev.perdure;

/** Options of {@link PerdureClient#resume}. */
public final class ResumeOptions {
    final dev.perdure.v1.ResumeOptions.Builder message = dev.perdure.v1.ResumeOptions.newBuilder();

    ResumeOptions() {}

    /** Sets the request ID, see {@link MutationOptions#requestId}. Default: a random UUID. */
    public ResumeOptions requestId(String id) {
        message.setRequestId(Arguments.required("opts.request_id", id));
        return this;
    }

    /** Names the step that receives the event. Required if several steps accept it. */
    public ResumeOptions stepRef(String ref) {
        message.setStepRef(Arguments.required("opts.step_ref", ref));
        return this;
    }

    /** Stores the event in the inbox of the instance if no step waits for it yet. Default: false. */
    public ResumeOptions buffer(boolean buffer) {
        message.setBuffer(buffer);
        return this;
    }
}
