package dev.perdure;

import dev.perdure.v1.BackupDatabaseRequest;
import dev.perdure.v1.CancelInstanceRequest;
import dev.perdure.v1.CancelTimerOptions;
import dev.perdure.v1.CancelTimerRequest;
import dev.perdure.v1.FireTimerOptions;
import dev.perdure.v1.FireTimerRequest;
import dev.perdure.v1.GetInstanceRequest;
import dev.perdure.v1.GetTimerRequest;
import dev.perdure.v1.GetWorkflowRequest;
import dev.perdure.v1.InstanceServiceGrpc;
import dev.perdure.v1.ListHistoryRequest;
import dev.perdure.v1.ListInstancesRequest;
import dev.perdure.v1.ListTimersRequest;
import dev.perdure.v1.ListWorkflowsRequest;
import dev.perdure.v1.ResumeRequest;
import dev.perdure.v1.RetryInstanceOptions;
import dev.perdure.v1.RetryInstanceRequest;
import dev.perdure.v1.RunnerServiceGrpc;
import dev.perdure.v1.ScheduleOptions;
import dev.perdure.v1.ScheduleResumeRequest;
import dev.perdure.v1.ServerServiceGrpc;
import dev.perdure.v1.StartInstanceRequest;
import dev.perdure.v1.TimerServiceGrpc;
import dev.perdure.v1.WorkflowServiceGrpc;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * Client of a perdure server. Any number of threads can share one.
 *
 * <pre>{@code
 * try (PerdureClient client = PerdureClient.connect("127.0.0.1:7420")) {
 *     StartedInstance started = client.startInstance("order", Map.of("items", List.of("lamp")));
 *     client.resume(started.instanceId(), "reserved", Map.of("shelf", "B4"), opts -> opts.buffer(true));
 * }
 * }</pre>
 *
 * <p>Methods block until the response and throw {@link PerdureException}. Options are set by a function:
 * {@code client.startInstance("order", context, opts -> opts.businessKey("order-17"))}.
 *
 * <p>Contexts and payloads are plain values, as {@link Json#write} accepts them, or {@link RawJson}.
 *
 * <p>A call that fails for a retryable reason (connection lost, server restarting, overload) is retried with the same
 * request ID until its timeout; see {@link CallRetryPolicy}. After {@link #close()}, methods throw
 * {@link IllegalStateException}.
 */
public final class PerdureClient implements AutoCloseable {
    /** Default address of a server. */
    public static final String DEFAULT_TARGET = "127.0.0.1:7420";

    /** Default number of items per page of a list. */
    static final int PAGE_SIZE = 100;

    /** The duration of a backup depends on the size of the database. */
    private static final Duration BACKUP_TIMEOUT = Duration.ofHours(1);

    private final Connection connection;
    private final long timeoutNanos;

    private PerdureClient(Connection connection, Duration timeout) {
        this.connection = connection;
        this.timeoutNanos = Attempts.limit("timeout", timeout);
    }

    /** Creates a client with default settings and without TLS. The first call opens the connection. */
    public static PerdureClient connect(String target) {
        return builder(target).build();
    }

    /** Returns a builder for a client with other settings. */
    public static Builder builder(String target) {
        return new Builder(target);
    }

    /** Returns this client with another timeout, on the same connection. Closing one closes both. */
    public PerdureClient withTimeout(Duration timeout) {
        return new PerdureClient(connection, timeout);
    }

    /** Closes every connection. Calls and watches in progress end. Can be called twice. */
    @Override
    public void close() {
        connection.close();
    }

    // --- running instances ------------------------------------------------------------------------------------------

    /** Starts an instance with an empty context. */
    public StartedInstance startInstance(String workflow) {
        return startInstance(workflow, Map.of());
    }

    /** Starts an instance. */
    public StartedInstance startInstance(String workflow, Object context) {
        return startInstance(workflow, context, opts -> {});
    }

    /**
     * Stores a new instance, which starts at once or after its start delay.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code PAYLOAD_TOO_LARGE}, {@code REQUEST_ID_REUSED},
     * {@code WORKFLOW_NOT_FOUND}, {@code INSTANCE_ALREADY_EXISTS}, {@code BUSINESS_KEY_IN_USE}.
     *
     * @param context JSON object that every step can read, as a map or {@link RawJson}
     */
    public StartedInstance startInstance(String workflow, Object context, Consumer<StartOptions> options) {
        var opts = set(new StartOptions(), options).message;
        opts.setRequestId(Arguments.requestId(opts.getRequestId()));
        StartInstanceRequest request = StartInstanceRequest.newBuilder()
                .setWorkflow(Arguments.required("workflow", workflow))
                .setContext(Arguments.payload("context", context))
                .setOpts(opts)
                .build();
        var response = connection.call(
                RunnerServiceGrpc.getStartInstanceMethod(), request, opts.getRequestId(), timeoutNanos);
        return new StartedInstance(
                response.getInstanceId(),
                response.getCreated(),
                Integer.toUnsignedLong(response.getVersion()),
                response.getRevision());
    }

    /** Delivers an event without a payload. */
    public Resumed resume(String instanceId, String event) {
        return resume(instanceId, event, opts -> {});
    }

    /** Delivers an event with a payload. */
    public Resumed resume(String instanceId, String event, Object payload) {
        return resume(instanceId, event, payload, opts -> {});
    }

    /** Delivers an event without a payload. */
    public Resumed resume(String instanceId, String event, Consumer<ResumeOptions> options) {
        return resume(instanceId, event, set(new ResumeOptions(), options));
    }

    /**
     * Delivers an event to the step that waits for it.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code PAYLOAD_TOO_LARGE}, {@code REQUEST_ID_REUSED},
     * {@code INSTANCE_NOT_FOUND}, {@code INSTANCE_ENDED}, {@code STEP_NOT_FOUND}, {@code STEP_FINISHED},
     * {@code STEP_UNREACHABLE}, {@code EVENT_NOT_AWAITED}, {@code EVENT_NEVER_ACCEPTED}, {@code AMBIGUOUS_EVENT},
     * {@code INBOX_FULL}.
     *
     * @param payload any JSON value except null, or {@link RawJson}. It becomes the output of the step
     */
    public Resumed resume(String instanceId, String event, Object payload, Consumer<ResumeOptions> options) {
        ResumeOptions opts = set(new ResumeOptions(), options);
        opts.message.setPayload(Arguments.payload("opts.payload", payload));
        return resume(instanceId, event, opts);
    }

    private Resumed resume(String instanceId, String event, ResumeOptions options) {
        var opts = options.message;
        opts.setRequestId(Arguments.requestId(opts.getRequestId()));
        ResumeRequest request = ResumeRequest.newBuilder()
                .setInstanceId(Arguments.required("instance_id", instanceId))
                .setEvent(Arguments.required("event", event))
                .setOpts(opts)
                .build();
        var response =
                connection.call(RunnerServiceGrpc.getResumeMethod(), request, opts.getRequestId(), timeoutNanos);
        return new Resumed(
                Convert.disposition(response.getDisposition()), response.getStepRef(), response.getRevision());
    }

    /** Resumes a step with the event {@code timeout} after a delay. */
    public ScheduledResume scheduleResume(String instanceId, String stepRef, Duration delay) {
        return scheduleResume(instanceId, stepRef, delay, opts -> {});
    }

    /**
     * Arms a durable timer that resumes a step with the event {@code timeout} after a delay, and never earlier. The
     * step must have a {@code timeout} transition.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code REQUEST_ID_REUSED}, {@code INSTANCE_NOT_FOUND},
     * {@code INSTANCE_ENDED}, {@code STEP_NOT_FOUND}, {@code STEP_FINISHED}, {@code STEP_UNREACHABLE},
     * {@code STEP_HAS_NO_TIMEOUT}, {@code TOO_MANY_TIMERS}.
     *
     * @param delay 1 ms to ten years, rounded up to milliseconds
     */
    public ScheduledResume scheduleResume(
            String instanceId, String stepRef, Duration delay, Consumer<MutationOptions> options) {
        String requestId = requestId(options);
        ScheduleResumeRequest request = ScheduleResumeRequest.newBuilder()
                .setInstanceId(Arguments.required("instance_id", instanceId))
                .setStepRef(Arguments.required("step_ref", stepRef))
                .setDelayMs(Arguments.milliseconds("delay_ms", delay))
                .setOpts(ScheduleOptions.newBuilder().setRequestId(requestId))
                .build();
        var response =
                connection.call(RunnerServiceGrpc.getScheduleResumeMethod(), request, requestId, timeoutNanos);
        return new ScheduledResume(
                response.getReference(), Convert.instant(response.getDueTime()), response.getRevision());
    }

    // --- instances --------------------------------------------------------------------------------------------------

    /** Returns an instance with its payloads. Reasons: {@code INSTANCE_NOT_FOUND}. */
    public Instance getInstance(String instanceId) {
        GetInstanceRequest request = GetInstanceRequest.newBuilder()
                .setInstanceId(Arguments.required("instance_id", instanceId))
                .build();
        return Convert.instance(connection
                .call(InstanceServiceGrpc.getGetInstanceMethod(), request, "", timeoutNanos)
                .getInstance());
    }

    /** Lists all instances, newest first. */
    public Pages<InstanceSummary> listInstances() {
        return listInstances(filter -> {});
    }

    /**
     * Lists the instances that match every condition of the filter, newest first:
     * {@code client.listInstances(filter -> filter.workflow("order").label("tier", "gold"))}.
     *
     * <p>The server examines a limited number of instances for each page. With a filter that few instances match, the
     * list requests several pages, some of them empty, before it returns an item.
     */
    public Pages<InstanceSummary> listInstances(Consumer<InstanceFilter> filter) {
        ListInstancesRequest first = set(new InstanceFilter(), filter).message.build();
        return new Pages<>(token -> {
            ListInstancesRequest request = first.toBuilder().setPageToken(token).build();
            var page = connection.call(InstanceServiceGrpc.getListInstancesMethod(), request, "", timeoutNanos);
            return Pages.Page.of(page.getInstancesList(), Convert::instanceSummary, page.getNextPageToken());
        });
    }

    /** Lists the complete history of an instance, in order. */
    public Pages<HistoryEntry> listHistory(String instanceId) {
        return listHistory(instanceId, opts -> {});
    }

    /**
     * Lists the history of an instance, in order. Reasons: {@code INSTANCE_NOT_FOUND}, {@code REVISION_IN_FUTURE},
     * {@code REVISION_COMPACTED}.
     */
    public Pages<HistoryEntry> listHistory(String instanceId, Consumer<HistoryOptions> options) {
        ListHistoryRequest first = set(new HistoryOptions(), options)
                .message
                .setInstanceId(Arguments.required("instance_id", instanceId))
                .build();
        return new Pages<>(token -> {
            ListHistoryRequest request = first.toBuilder().setPageToken(token).build();
            var page = connection.call(InstanceServiceGrpc.getListHistoryMethod(), request, "", timeoutNanos);
            return Pages.Page.of(page.getEntriesList(), Convert::entry, page.getNextPageToken());
        });
    }

    /** Watches an instance from a snapshot on, without a time limit. */
    public Watch watchInstance(String instanceId) {
        return watchInstance(instanceId, WatchOptions.DEFAULT);
    }

    /**
     * Watches an instance; see {@link Watch}. The first read sends the request. The server must respond to it within
     * the timeout of the client.
     *
     * <p>Reasons: {@code INSTANCE_NOT_FOUND}, {@code REVISION_IN_FUTURE}, {@code REVISION_COMPACTED}.
     */
    public Watch watchInstance(String instanceId, WatchOptions options) {
        Long after = options.afterRevision().isPresent() ? options.afterRevision().getAsLong() : null;
        return new Watch(connection, Arguments.required("instance_id", instanceId), after, options, timeoutNanos);
    }

    /** Returns the instance once it is COMPLETED, FAILED or CANCELLED, however long that takes. */
    public Instance waitForEnd(String instanceId) {
        return waitForEnd(instanceId, Duration.ofSeconds(Long.MAX_VALUE));
    }

    /**
     * Returns the instance once it is COMPLETED, FAILED or CANCELLED.
     *
     * <p>Reasons: {@code INSTANCE_NOT_FOUND}. {@link PerdureException#code()} is {@code DEADLINE_EXCEEDED} if the
     * timeout passes first.
     */
    public Instance waitForEnd(String instanceId, Duration timeout) {
        Attempts whole = connection.attempts(Attempts.limit("timeout", timeout));
        while (true) {
            if (whole.nanosLeft() == 0) {
                throw PerdureException.local(
                        Status.Code.DEADLINE_EXCEEDED,
                        "instance '" + instanceId + "' did not end within " + timeout,
                        "",
                        null);
            }
            WatchOptions options = WatchOptions.DEFAULT.withTimeout(Duration.ofNanos(Math.max(1, whole.nanosLeft())));
            try (Watch watch = watchInstance(instanceId, options)) {
                watch.forEachRemaining(event -> {});
            }
            Instance instance = getInstance(instanceId);
            if (instance.state().hasEnded()) { // otherwise it was retried in between
                return instance;
            }
        }
    }

    /** Cancels an instance. */
    public CancelledInstance cancelInstance(String instanceId) {
        return cancelInstance(instanceId, opts -> {});
    }

    /** Cancels an instance. The reason is stored in its history. */
    public CancelledInstance cancelInstance(String instanceId, String reason) {
        return cancelInstance(instanceId, opts -> opts.reason(reason));
    }

    /** Cancels an instance. Reasons: {@code INSTANCE_NOT_FOUND}, {@code INSTANCE_ENDED}. */
    public CancelledInstance cancelInstance(String instanceId, Consumer<CancelOptions> options) {
        var opts = set(new CancelOptions(), options).message;
        opts.setRequestId(Arguments.requestId(opts.getRequestId()));
        CancelInstanceRequest request = CancelInstanceRequest.newBuilder()
                .setInstanceId(Arguments.required("instance_id", instanceId))
                .setOpts(opts)
                .build();
        var response = connection.call(
                InstanceServiceGrpc.getCancelInstanceMethod(), request, opts.getRequestId(), timeoutNanos);
        return new CancelledInstance(response.getRevision());
    }

    /** Continues a FAILED instance. */
    public RetriedInstance retryInstance(String instanceId) {
        return retryInstance(instanceId, opts -> {});
    }

    /**
     * Continues a FAILED instance with new attempts of its failed and interrupted steps. Every timer of
     * {@code scheduleResume} keeps its due time and gets a new reference.
     *
     * <p>Reasons: {@code INSTANCE_NOT_FOUND}, {@code INSTANCE_NOT_FAILED}, {@code BUSINESS_KEY_IN_USE},
     * {@code WORKFLOW_NOT_FOUND}.
     */
    public RetriedInstance retryInstance(String instanceId, Consumer<MutationOptions> options) {
        String requestId = requestId(options);
        RetryInstanceRequest request = RetryInstanceRequest.newBuilder()
                .setInstanceId(Arguments.required("instance_id", instanceId))
                .setOpts(RetryInstanceOptions.newBuilder().setRequestId(requestId))
                .build();
        var response =
                connection.call(InstanceServiceGrpc.getRetryInstanceMethod(), request, requestId, timeoutNanos);
        return new RetriedInstance(response.getRevision());
    }

    // --- timers -----------------------------------------------------------------------------------------------------

    /** Returns a pending timer. Reasons: {@code TIMER_NOT_FOUND}. */
    public Timer getTimer(String reference) {
        GetTimerRequest request = GetTimerRequest.newBuilder()
                .setReference(Arguments.required("reference", reference))
                .build();
        return Convert.timer(
                connection.call(TimerServiceGrpc.getGetTimerMethod(), request, "", timeoutNanos).getTimer());
    }

    /** Lists the pending timers of all instances, earliest first. */
    public Pages<Timer> listTimers() {
        return listTimers("");
    }

    /** Lists the pending timers of an instance, earliest first. An empty ID lists the timers of all instances. */
    public Pages<Timer> listTimers(String instanceId) {
        return listTimers(instanceId, opts -> {});
    }

    /** Lists the pending timers of an instance, earliest first. An empty ID lists the timers of all instances. */
    public Pages<Timer> listTimers(String instanceId, Consumer<ListOptions> options) {
        ListTimersRequest first = ListTimersRequest.newBuilder()
                .setInstanceId(Arguments.required("instance_id", instanceId))
                .setPageSize(set(new ListOptions(), options).pageSize())
                .build();
        return new Pages<>(token -> {
            ListTimersRequest request = first.toBuilder().setPageToken(token).build();
            var page = connection.call(TimerServiceGrpc.getListTimersMethod(), request, "", timeoutNanos);
            return Pages.Page.of(page.getTimersList(), Convert::timer, page.getNextPageToken());
        });
    }

    /** Cancels a pending timer of kind TIMEOUT. */
    public CancelledTimer cancelTimer(String reference) {
        return cancelTimer(reference, opts -> {});
    }

    /** Cancels a pending timer of kind TIMEOUT. Reasons: {@code TIMER_NOT_FOUND}, {@code TIMER_NOT_CANCELLABLE}. */
    public CancelledTimer cancelTimer(String reference, Consumer<MutationOptions> options) {
        String requestId = requestId(options);
        CancelTimerRequest request = CancelTimerRequest.newBuilder()
                .setReference(Arguments.required("reference", reference))
                .setOpts(CancelTimerOptions.newBuilder().setRequestId(requestId))
                .build();
        var response = connection.call(TimerServiceGrpc.getCancelTimerMethod(), request, requestId, timeoutNanos);
        return new CancelledTimer(response.getRevision());
    }

    /** Fires a pending timer now, whatever its kind. */
    public FiredTimer fireTimer(String reference) {
        return fireTimer(reference, opts -> {});
    }

    /** Fires a pending timer now, whatever its kind. Reasons: {@code TIMER_NOT_FOUND}. */
    public FiredTimer fireTimer(String reference, Consumer<MutationOptions> options) {
        String requestId = requestId(options);
        FireTimerRequest request = FireTimerRequest.newBuilder()
                .setReference(Arguments.required("reference", reference))
                .setOpts(FireTimerOptions.newBuilder().setRequestId(requestId))
                .build();
        var response = connection.call(TimerServiceGrpc.getFireTimerMethod(), request, requestId, timeoutNanos);
        return new FiredTimer(response.getRevision(), response.getUsed());
    }

    // --- workflows --------------------------------------------------------------------------------------------------

    /** Returns the newest version of a workflow with its graph. */
    public WorkflowVersion getWorkflow(String workflow) {
        return getWorkflow(workflow, 0);
    }

    /** Returns a version of a workflow with its graph; 0 is the newest. Reasons: {@code WORKFLOW_NOT_FOUND}. */
    public WorkflowVersion getWorkflow(String workflow, long version) {
        GetWorkflowRequest request = GetWorkflowRequest.newBuilder()
                .setWorkflow(Arguments.required("workflow", workflow))
                .setVersion(Arguments.uint32("version", version))
                .build();
        return Convert.workflow(connection
                .call(WorkflowServiceGrpc.getGetWorkflowMethod(), request, "", timeoutNanos)
                .getWorkflow());
    }

    /** Lists every version of every workflow, without the graphs. */
    public Pages<WorkflowSummary> listWorkflows() {
        return listWorkflows(opts -> {});
    }

    /** Lists every version of every workflow, without the graphs. */
    public Pages<WorkflowSummary> listWorkflows(Consumer<ListOptions> options) {
        int pageSize = set(new ListOptions(), options).pageSize();
        return new Pages<>(token -> {
            ListWorkflowsRequest request = ListWorkflowsRequest.newBuilder()
                    .setPageSize(pageSize)
                    .setPageToken(token)
                    .build();
            var page = connection.call(WorkflowServiceGrpc.getListWorkflowsMethod(), request, "", timeoutNanos);
            return Pages.Page.of(page.getWorkflowsList(), Convert::workflowSummary, page.getNextPageToken());
        });
    }

    // --- server -----------------------------------------------------------------------------------------------------

    /** Returns the health of the server as a whole. */
    public Health checkHealth() {
        return checkHealth("");
    }

    /**
     * Returns the health of a service of the server; an empty name means the server as a whole. Sent once, without
     * retries. {@link PerdureException#code()} is {@code UNAVAILABLE} if no server responds.
     */
    public Health checkHealth(String service) {
        HealthCheckRequest request = HealthCheckRequest.newBuilder()
                .setService(Arguments.required("service", service))
                .build();
        var response = connection.callOnce(HealthGrpc.getCheckMethod(), request, timeoutNanos);
        return Convert.health(response.getStatus());
    }

    /** Writes a backup of the database, within one hour. See {@link #backupDatabase(String, Duration)}. */
    public Backup backupDatabase(String fileName) {
        return backupDatabase(fileName, BACKUP_TIMEOUT);
    }

    /**
     * Writes a backup of the database into the backup directory of the server. Returns once the backup is complete and
     * verified. The call is not retried, and the server removes an incomplete backup when the call ends.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code BACKUP_NOT_CONFIGURED}, {@code BACKUP_ALREADY_EXISTS},
     * {@code BACKUP_FAILED}, {@code OVERLOADED} (a backup is already running).
     *
     * @param fileName at most 128 characters of {@code A-Z a-z 0-9 . _ -}, starting with a letter or a digit
     */
    public Backup backupDatabase(String fileName, Duration timeout) {
        BackupDatabaseRequest request = BackupDatabaseRequest.newBuilder()
                .setFileName(Arguments.required("file_name", fileName))
                .build();
        var response = connection.callOnce(
                ServerServiceGrpc.getBackupDatabaseMethod(), request, Attempts.limit("timeout", timeout));
        return new Backup(
                response.getPath(),
                response.getSizeBytes(),
                response.getInstances(),
                Convert.instant(response.getSnapshotTime()));
    }

    /** Returns the number of watches on each open watch connection, for tests. */
    List<Integer> watches() {
        return connection.watches();
    }

    private static <O> O set(O options, Consumer<? super O> settings) {
        settings.accept(options);
        return options;
    }

    private static String requestId(Consumer<MutationOptions> options) {
        return Arguments.requestId(set(new MutationOptions(), options).requestId());
    }

    /** Builder of a client. */
    public static final class Builder {
        private final String target;
        private final Metadata headers = new Metadata();
        private TlsOptions tls;
        private Duration timeout = Duration.ofSeconds(30);
        private CallRetryPolicy retries = CallRetryPolicy.DEFAULT;
        private Consumer<ManagedChannelBuilder<?>> channel = builder -> {};

        private Builder(String target) {
            this.target = Objects.requireNonNull(target, "target");
        }

        /** Sets TLS. Default: plain text. */
        public Builder tls(TlsOptions options) {
            tls = Objects.requireNonNull(options, "options");
            return this;
        }

        /**
         * Sets the timeout of each call, including retries. Must be more than 0. More than ten years removes the limit.
         * Default: 30 seconds. See also {@link #withTimeout}.
         */
        public Builder timeout(Duration limit) {
            Attempts.limit("timeout", limit);
            timeout = limit;
            return this;
        }

        /** Sets the retry policy. Default: {@link CallRetryPolicy#DEFAULT}. */
        public Builder retries(CallRetryPolicy policy) {
            retries = Objects.requireNonNull(policy, "policy");
            return this;
        }

        /** Adds a header to every call, for example {@code header("authorization", "Bearer ...")}. */
        public Builder header(String name, String value) {
            headers.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
            return this;
        }

        /** Customizes the gRPC channel before it is built, for example with interceptors, executors or a proxy. */
        public Builder channel(Consumer<ManagedChannelBuilder<?>> customizer) {
            channel = Objects.requireNonNull(customizer, "customizer");
            return this;
        }

        /**
         * Builds the client.
         *
         * @throws java.io.UncheckedIOException if a PEM file cannot be read
         * @throws PerdureException if the private key is not in PKCS #8 format
         */
        public PerdureClient build() {
            return new PerdureClient(new Connection(target, tls, headers, retries, channel), timeout);
        }
    }
}
