package dev.perdure;

/** Filter of {@link PerdureClient#listInstances}. An instance is listed if it matches every condition. */
public final class InstanceFilter {
    final dev.perdure.v1.ListInstancesRequest.Builder message =
            dev.perdure.v1.ListInstancesRequest.newBuilder().setPageSize(PerdureClient.PAGE_SIZE);

    InstanceFilter() {}

    /** Lists only instances in one of these states. Default: all states. */
    public InstanceFilter states(InstanceState... states) {
        for (InstanceState state : Arguments.required("states", states)) {
            if (Arguments.required("states", state) == InstanceState.UNKNOWN) {
                throw Arguments.invalid("states", "UNKNOWN is not a state that can be listed");
            }
            message.addStates(dev.perdure.v1.InstanceState.valueOf("INSTANCE_STATE_" + state.name()));
        }
        return this;
    }

    /** Lists only instances of this workflow. */
    public InstanceFilter workflow(String name) {
        message.setWorkflow(Arguments.required("workflow", name));
        return this;
    }

    /** Lists only instances of this version; requires {@link #workflow}. Default: 0, all versions. */
    public InstanceFilter version(long version) {
        message.setVersion(Arguments.uint32("version", version));
        return this;
    }

    /** Lists only instances with this label. Call it again to require several labels. */
    public InstanceFilter label(String name, String value) {
        message.putLabels(Arguments.required("labels", name), Arguments.required("labels", value));
        return this;
    }

    /** Lists only instances with this business key. */
    public InstanceFilter businessKey(String key) {
        message.setBusinessKey(Arguments.required("business_key", key));
        return this;
    }

    /** Lists only instances that ended with accepted events that no step consumed. Default: false. */
    public InstanceFilter unconsumedEvents(boolean only) {
        message.setUnconsumedEvents(only);
        return this;
    }

    /** Sets the number of instances per request, at most 1,000. Default: 100. */
    public InstanceFilter pageSize(int instances) {
        message.setPageSize(instances);
        return this;
    }
}
