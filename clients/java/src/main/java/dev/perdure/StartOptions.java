package dev.perdure;

import java.time.Duration;
import java.util.Map;

/** Options of {@link PerdureClient#startInstance}. */
public final class StartOptions {
    final dev.perdure.v1.StartOptions.Builder message = dev.perdure.v1.StartOptions.newBuilder();

    StartOptions() {}

    /** Sets the request ID, see {@link MutationOptions#requestId}. Default: a random UUID. */
    public StartOptions requestId(String id) {
        message.setRequestId(Arguments.required("opts.request_id", id));
        return this;
    }

    /** Sets the ID of the instance. Default: the server chooses one. */
    public StartOptions instanceId(String id) {
        message.setInstanceId(Arguments.required("opts.instance_id", id));
        return this;
    }

    /** Sets the version of the workflow. Default: 0, the newest. */
    public StartOptions version(long version) {
        message.setVersion(Arguments.uint32("opts.version", version));
        return this;
    }

    /** Sets a key that is unique per workflow among the PENDING, RUNNING and WAITING instances. Default: none. */
    public StartOptions businessKey(String key) {
        message.setBusinessKey(Arguments.required("opts.business_key", key));
        return this;
    }

    /** Sets the action if a live instance holds the business key. Default: {@link ConflictPolicy#FAIL}. */
    public StartOptions conflictPolicy(ConflictPolicy policy) {
        Arguments.required("opts.conflict_policy", policy);
        message.setConflictPolicy(dev.perdure.v1.ConflictPolicy.valueOf("CONFLICT_POLICY_" + policy.name()));
        return this;
    }

    /** Sets the delay until the instance starts, rounded up to milliseconds. Maximum: ten years. Default: none. */
    public StartOptions startDelay(Duration delay) {
        message.setStartDelayMs(Arguments.milliseconds("opts.start_delay_ms", delay));
        return this;
    }

    /** Adds a label, which you can filter lists by. */
    public StartOptions label(String name, String value) {
        message.putLabels(Arguments.required("opts.labels", name), Arguments.required("opts.labels", value));
        return this;
    }

    /** Adds labels. */
    public StartOptions labels(Map<String, String> labels) {
        Arguments.required("opts.labels", labels).forEach(this::label);
        return this;
    }
}
