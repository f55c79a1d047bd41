package dev.perdure;

import dev.perdure.v1.BackupDatabaseRequest;
import dev.perdure.v1.BackupDatabaseResponse;
import dev.perdure.v1.CancelInstanceOptions;
import dev.perdure.v1.CancelInstanceRequest;
import dev.perdure.v1.CancelInstanceResponse;
import dev.perdure.v1.CancelTimerOptions;
import dev.perdure.v1.CancelTimerRequest;
import dev.perdure.v1.CancelTimerResponse;
import dev.perdure.v1.FireTimerOptions;
import dev.perdure.v1.FireTimerRequest;
import dev.perdure.v1.FireTimerResponse;
import dev.perdure.v1.GetInstanceRequest;
import dev.perdure.v1.GetTimerRequest;
import dev.perdure.v1.GetWorkflowRequest;
import dev.perdure.v1.HistoryEntry;
import dev.perdure.v1.Instance;
import dev.perdure.v1.InstanceServiceGrpc;
import dev.perdure.v1.InstanceState;
import dev.perdure.v1.InstanceSummary;
import dev.perdure.v1.ListHistoryRequest;
import dev.perdure.v1.ListInstancesRequest;
import dev.perdure.v1.ListTimersRequest;
import dev.perdure.v1.ListWorkflowsRequest;
import dev.perdure.v1.Payload;
import dev.perdure.v1.ResumeOptions;
import dev.perdure.v1.ResumeRequest;
import dev.perdure.v1.ResumeResponse;
import dev.perdure.v1.RetryInstanceOptions;
import dev.perdure.v1.RetryInstanceRequest;
import dev.perdure.v1.RetryInstanceResponse;
import dev.perdure.v1.RunnerServiceGrpc;
import dev.perdure.v1.ScheduleOptions;
import dev.perdure.v1.ScheduleResumeRequest;
import dev.perdure.v1.ScheduleResumeResponse;
import dev.perdure.v1.ServerServiceGrpc;
import dev.perdure.v1.StartInstanceRequest;
import dev.perdure.v1.StartInstanceResponse;
import dev.perdure.v1.StartOptions;
import dev.perdure.v1.Timer;
import dev.perdure.v1.TimerServiceGrpc;
import dev.perdure.v1.Workflow;
import dev.perdure.v1.WorkflowServiceGrpc;
import dev.perdure.v1.WorkflowSummary;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * A connection to a perdure server. Any number of threads may share one.
 *
 * <pre>{@code
 * try (PerdureClient client = PerdureClient.connect("127.0.0.1:7420")) {
 *     String id = client.startInstance("order", Payloads.of(Map.of("items", List.of("lamp")))).getInstanceId();
 *     client.resume(id, "reserved", opts -> opts.setBuffer(true));
 * }
 * }</pre>
 *
 * <p>Calls block, and throw {@link PerdureException}. Each carries the API's options as a builder:
 * {@code client.startInstance("order", context, opts -> opts.setBusinessKey("order-17"))}. A mutating call without a
 * request id is given one; a call that failed for a moment's reason (connection lost, server restarting, overload) is
 * sent again with the same one, see {@link CallRetryPolicy}, until its timeout is over. After {@link #close()} calls throw
 * {@link IllegalStateException}.
 */
public final class PerdureClient implements AutoCloseable {
    /** Where a server listens unless it is told otherwise. */
    public static final String DEFAULT_TARGET = "127.0.0.1:7420";

    /** How many items a list asks for at a time, unless told otherwise. */
    static final int PAGE_SIZE = 100;

    /** The duration of a backup depends on the size of the database. */
    private static final Duration BACKUP_TIMEOUT = Duration.ofHours(1);

    private final Connection connection;
    private final long timeoutNanos;

    private PerdureClient(Connection connection, Duration timeout) {
        this.connection = connection;
        this.timeoutNanos = Attempts.limit("timeout", timeout);
    }

    /** Connects without TLS, with every default. The connection is opened by the first call. */
    public static PerdureClient connect(String target) {
        return builder(target).build();
    }

    /** Begins a client with settings of its own. */
    public static Builder builder(String target) {
        return new Builder(target);
    }

    /** Returns this client with another timeout, on the same connection; closing either closes both. */
    public PerdureClient withTimeout(Duration timeout) {
        return new PerdureClient(connection, timeout);
    }

    /** Closes every connection. Calls and watches in progress end. Can be called twice. */
    @Override
    public void close() {
        connection.close();
    }

    // --- the three verbs --------------------------------------------------------------------------------------------

    /** Starts an instance with an empty context. */
    public StartInstanceResponse startInstance(String workflow) {
        return startInstance(workflow, Payloads.json("{}"));
    }

    /** Starts an instance. */
    public StartInstanceResponse startInstance(String workflow, Payload context) {
        return startInstance(workflow, context, opts -> {});
    }

    /**
     * Stores a new instance, which begins to run at once or after its start delay. {@code context} is a JSON object that
     * every step can read.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code PAYLOAD_TOO_LARGE}, {@code REQUEST_ID_REUSED},
     * {@code WORKFLOW_NOT_FOUND}, {@code INSTANCE_ALREADY_EXISTS}, {@code BUSINESS_KEY_IN_USE}.
     */
    public StartInstanceResponse startInstance(
            String workflow, Payload context, Consumer<StartOptions.Builder> options) {
        StartOptions.Builder opts = built(StartOptions.newBuilder(), options);
        opts.setRequestId(Requests.requestId(opts.getRequestId()));
        StartInstanceRequest request = StartInstanceRequest.newBuilder()
                .setWorkflow(Requests.required("workflow", workflow))
                .setContext(Requests.required("context", context))
                .setOpts(opts)
                .build();
        return connection.call(
                RunnerServiceGrpc.getStartInstanceMethod(), request, opts.getRequestId(), timeoutNanos);
    }

    /** Brings an event without a payload. */
    public ResumeResponse resume(String instanceId, String event) {
        return resume(instanceId, event, opts -> {});
    }

    /** Brings an event; the payload, any JSON value, becomes the step's output. */
    public ResumeResponse resume(String instanceId, String event, Payload payload) {
        return resume(instanceId, event, opts -> opts.setPayload(Requests.required("opts.payload", payload)));
    }

    /**
     * Brings an event to the step that waits for it. {@code setStepRef} picks the step where several wait;
     * {@code setBuffer} leaves the event in the instance's inbox where none does yet.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code PAYLOAD_TOO_LARGE}, {@code REQUEST_ID_REUSED},
     * {@code INSTANCE_NOT_FOUND}, {@code INSTANCE_ENDED}, {@code STEP_NOT_FOUND}, {@code STEP_FINISHED},
     * {@code STEP_UNREACHABLE}, {@code EVENT_NOT_AWAITED}, {@code EVENT_NEVER_ACCEPTED}, {@code AMBIGUOUS_EVENT}, {@code INBOX_FULL}.
     */
    public ResumeResponse resume(String instanceId, String event, Consumer<ResumeOptions.Builder> options) {
        ResumeOptions.Builder opts = built(ResumeOptions.newBuilder(), options);
        opts.setRequestId(Requests.requestId(opts.getRequestId()));
        ResumeRequest request = ResumeRequest.newBuilder()
                .setInstanceId(Requests.required("instance_id", instanceId))
                .setEvent(Requests.required("event", event))
                .setOpts(opts)
                .build();
        return connection.call(RunnerServiceGrpc.getResumeMethod(), request, opts.getRequestId(), timeoutNanos);
    }

    /** Resumes a step with {@code timeout} after a delay, rounded up to milliseconds. */
    public ScheduleResumeResponse scheduleResume(String instanceId, String stepRef, Duration delay) {
        return scheduleResume(instanceId, stepRef, Requests.milliseconds("delay_ms", delay), opts -> {});
    }

    /**
     * Arms a durable timer that resumes a step with the event {@code timeout}, never before {@code delayMs} have passed.
     * The step must declare a {@code timeout}.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code REQUEST_ID_REUSED}, {@code INSTANCE_NOT_FOUND},
     * {@code INSTANCE_ENDED}, {@code STEP_NOT_FOUND}, {@code STEP_FINISHED}, {@code STEP_UNREACHABLE},
     * {@code STEP_HAS_NO_TIMEOUT}.
     */
    public ScheduleResumeResponse scheduleResume(
            String instanceId, String stepRef, long delayMs, Consumer<ScheduleOptions.Builder> options) {
        ScheduleOptions.Builder opts = built(ScheduleOptions.newBuilder(), options);
        opts.setRequestId(Requests.requestId(opts.getRequestId()));
        ScheduleResumeRequest request = ScheduleResumeRequest.newBuilder()
                .setInstanceId(Requests.required("instance_id", instanceId))
                .setStepRef(Requests.required("step_ref", stepRef))
                .setDelayMs(delayMs)
                .setOpts(opts)
                .build();
        return connection.call(
                RunnerServiceGrpc.getScheduleResumeMethod(), request, opts.getRequestId(), timeoutNanos);
    }

    // --- instances --------------------------------------------------------------------------------------------------

    /** Returns an instance as it is now, with its payloads. Reasons: {@code INSTANCE_NOT_FOUND}. */
    public Instance getInstance(String instanceId) {
        GetInstanceRequest request = GetInstanceRequest.newBuilder().setInstanceId(Requests.required("instance_id", instanceId)).build();
        return connection.call(InstanceServiceGrpc.getGetInstanceMethod(), request, "", timeoutNanos).getInstance();
    }

    /**
     * Lists the instances that meet every filter given, newest first:
     * {@code client.listInstances(filter -> filter.setWorkflow("order").putLabels("tier", "gold"))}.
     *
     * <p>The server examines a limited number of instances for each page. With a filter that few instances match, the
     * list requests several pages, some of them empty, before it returns an item.
     */
    public Pages<InstanceSummary> listInstances(Consumer<ListInstancesRequest.Builder> filter) {
        ListInstancesRequest first =
                built(ListInstancesRequest.newBuilder().setPageSize(PAGE_SIZE), filter).build();
        return new Pages<>(token -> {
            ListInstancesRequest request = first.toBuilder().setPageToken(token).build();
            var page = connection.call(InstanceServiceGrpc.getListInstancesMethod(), request, "", timeoutNanos);
            return new Pages.Page<>(page.getInstancesList(), page.getNextPageToken());
        });
    }

    /** Lists an instance's whole history up to now, in order. Reasons: {@code INSTANCE_NOT_FOUND}. */
    public Pages<HistoryEntry> listHistory(String instanceId) {
        return listHistory(instanceId, request -> {});
    }

    /** Lists an instance's history; {@code setAfterRevision} leaves the beginning out. */
    public Pages<HistoryEntry> listHistory(String instanceId, Consumer<ListHistoryRequest.Builder> range) {
        ListHistoryRequest first = built(
                        ListHistoryRequest.newBuilder().setInstanceId(Requests.required("instance_id", instanceId)).setPageSize(PAGE_SIZE), range)
                .build();
        return new Pages<>(token -> {
            ListHistoryRequest request = first.toBuilder().setPageToken(token).build();
            var page = connection.call(InstanceServiceGrpc.getListHistoryMethod(), request, "", timeoutNanos);
            return new Pages.Page<>(page.getEntriesList(), page.getNextPageToken());
        });
    }

    /** Follows an instance from a snapshot on, for as long as it takes. */
    public Watch watchInstance(String instanceId) {
        return watchInstance(instanceId, WatchOptions.DEFAULT);
    }

    /** Follows an instance; see {@link Watch}. Nothing is sent before the first event is asked for. */
    public Watch watchInstance(String instanceId, WatchOptions options) {
        Long after = options.afterRevision().isPresent() ? options.afterRevision().getAsLong() : null;
        return new Watch(connection, Requests.required("instance_id", instanceId), after, options, timeoutNanos);
    }

    /**
     * Returns the instance once it is COMPLETED, FAILED or CANCELLED.
     *
     * <p>Reasons: {@code INSTANCE_NOT_FOUND}; the status {@code DEADLINE_EXCEEDED} where {@code patience} is over first.
     */
    public Instance waitForEnd(String instanceId, Duration patience) {
        Attempts whole = connection.attempts(Attempts.limit("patience", patience));
        while (true) {
            if (whole.nanosLeft() == 0) {
                throw PerdureException.local(
                        Status.Code.DEADLINE_EXCEEDED, instanceId + " did not end within " + patience, "", null);
            }
            WatchOptions options = WatchOptions.DEFAULT.withTimeout(Duration.ofNanos(Math.max(1, whole.nanosLeft())));
            try (Watch watch = watchInstance(instanceId, options)) {
                watch.forEachRemaining(event -> {});
            }
            Instance instance = getInstance(instanceId);
            if (hasEnded(instance.getState())) { // else somebody retried it in between
                return instance;
            }
        }
    }

    private static boolean hasEnded(InstanceState state) {
        return switch (state) {
            case INSTANCE_STATE_COMPLETED, INSTANCE_STATE_FAILED, INSTANCE_STATE_CANCELLED -> true;
            default -> false;
        };
    }

    /** Ends an instance; {@code reason} is kept in its history. */
    public CancelInstanceResponse cancelInstance(String instanceId, String reason) {
        return cancelInstance(instanceId, opts -> opts.setReason(Requests.required("opts.reason", reason)));
    }

    /** Ends an instance. Reasons: {@code INSTANCE_NOT_FOUND}, {@code INSTANCE_ENDED}. */
    public CancelInstanceResponse cancelInstance(String instanceId, Consumer<CancelInstanceOptions.Builder> options) {
        CancelInstanceOptions.Builder opts = built(CancelInstanceOptions.newBuilder(), options);
        opts.setRequestId(Requests.requestId(opts.getRequestId()));
        CancelInstanceRequest request =
                CancelInstanceRequest.newBuilder().setInstanceId(Requests.required("instance_id", instanceId)).setOpts(opts).build();
        return connection.call(
                InstanceServiceGrpc.getCancelInstanceMethod(), request, opts.getRequestId(), timeoutNanos);
    }

    /** Sets a FAILED instance going again. */
    public RetryInstanceResponse retryInstance(String instanceId) {
        return retryInstance(instanceId, opts -> {});
    }

    /**
     * Sets a FAILED instance going again. Reasons: {@code INSTANCE_NOT_FOUND}, {@code INSTANCE_NOT_FAILED},
     * {@code BUSINESS_KEY_IN_USE}. Every timer of {@code scheduleResume} is kept with its original due time and gets a
     * new reference.
     */
    public RetryInstanceResponse retryInstance(String instanceId, Consumer<RetryInstanceOptions.Builder> options) {
        RetryInstanceOptions.Builder opts = built(RetryInstanceOptions.newBuilder(), options);
        opts.setRequestId(Requests.requestId(opts.getRequestId()));
        RetryInstanceRequest request =
                RetryInstanceRequest.newBuilder().setInstanceId(Requests.required("instance_id", instanceId)).setOpts(opts).build();
        return connection.call(
                InstanceServiceGrpc.getRetryInstanceMethod(), request, opts.getRequestId(), timeoutNanos);
    }

    // --- timers -----------------------------------------------------------------------------------------------------

    /** Returns a pending timer. Reasons: {@code TIMER_NOT_FOUND}. */
    public Timer getTimer(String reference) {
        GetTimerRequest request = GetTimerRequest.newBuilder().setReference(Requests.required("reference", reference)).build();
        return connection.call(TimerServiceGrpc.getGetTimerMethod(), request, "", timeoutNanos).getTimer();
    }

    /** Lists the pending timers of an instance, the one that is due first on top. */
    public Pages<Timer> listTimers(String instanceId) {
        return listTimers(filter -> filter.setInstanceId(Requests.required("instance_id", instanceId)));
    }

    /** Lists pending timers, the one that is due first on top. */
    public Pages<Timer> listTimers(Consumer<ListTimersRequest.Builder> filter) {
        ListTimersRequest first =
                built(ListTimersRequest.newBuilder().setPageSize(PAGE_SIZE), filter).build();
        return new Pages<>(token -> {
            ListTimersRequest request = first.toBuilder().setPageToken(token).build();
            var page = connection.call(TimerServiceGrpc.getListTimersMethod(), request, "", timeoutNanos);
            return new Pages.Page<>(page.getTimersList(), page.getNextPageToken());
        });
    }

    /** Cancels a timer of kind TIMEOUT. */
    public CancelTimerResponse cancelTimer(String reference) {
        return cancelTimer(reference, opts -> {});
    }

    /** Cancels a timer of kind TIMEOUT. Reasons: {@code TIMER_NOT_FOUND}, {@code TIMER_NOT_CANCELLABLE}. */
    public CancelTimerResponse cancelTimer(String reference, Consumer<CancelTimerOptions.Builder> options) {
        CancelTimerOptions.Builder opts = built(CancelTimerOptions.newBuilder(), options);
        opts.setRequestId(Requests.requestId(opts.getRequestId()));
        CancelTimerRequest request =
                CancelTimerRequest.newBuilder().setReference(Requests.required("reference", reference)).setOpts(opts).build();
        return connection.call(TimerServiceGrpc.getCancelTimerMethod(), request, opts.getRequestId(), timeoutNanos);
    }

    /** Makes a pending timer act now. */
    public FireTimerResponse fireTimer(String reference) {
        return fireTimer(reference, opts -> {});
    }

    /** Makes a pending timer act now, whatever its kind. Reasons: {@code TIMER_NOT_FOUND}. */
    public FireTimerResponse fireTimer(String reference, Consumer<FireTimerOptions.Builder> options) {
        FireTimerOptions.Builder opts = built(FireTimerOptions.newBuilder(), options);
        opts.setRequestId(Requests.requestId(opts.getRequestId()));
        FireTimerRequest request =
                FireTimerRequest.newBuilder().setReference(Requests.required("reference", reference)).setOpts(opts).build();
        return connection.call(TimerServiceGrpc.getFireTimerMethod(), request, opts.getRequestId(), timeoutNanos);
    }

    // --- workflows --------------------------------------------------------------------------------------------------

    /** Returns the newest version of a workflow with its graph. */
    public Workflow getWorkflow(String workflow) {
        return getWorkflow(workflow, 0);
    }

    /** Returns a workflow with its graph; version 0 is the newest. Reasons: {@code WORKFLOW_NOT_FOUND}. */
    public Workflow getWorkflow(String workflow, int version) {
        GetWorkflowRequest request =
                GetWorkflowRequest.newBuilder().setWorkflow(Requests.required("workflow", workflow)).setVersion(version).build();
        return connection.call(WorkflowServiceGrpc.getGetWorkflowMethod(), request, "", timeoutNanos).getWorkflow();
    }

    /** Lists every version of every workflow. */
    public Pages<WorkflowSummary> listWorkflows() {
        return new Pages<>(token -> {
            ListWorkflowsRequest request = ListWorkflowsRequest.newBuilder()
                    .setPageSize(PAGE_SIZE)
                    .setPageToken(token)
                    .build();
            var page = connection.call(WorkflowServiceGrpc.getListWorkflowsMethod(), request, "", timeoutNanos);
            return new Pages.Page<>(page.getWorkflowsList(), page.getNextPageToken());
        });
    }

    /** Number of watches on each open watch connection, for tests. */
    List<Integer> watches() {
        return connection.watches();
    }

    // --- server -----------------------------------------------------------------------------------------------------

    /** Writes a backup of the server's database, within one hour. See {@link #backupDatabase(String, Duration)}. */
    public BackupDatabaseResponse backupDatabase(String fileName) {
        return backupDatabase(fileName, BACKUP_TIMEOUT);
    }

    /**
     * Writes a backup of the server's database into the directory that the server was started with. Returns once the
     * backup is complete and verified. {@code fileName} is at most 128 characters of {@code A-Z a-z 0-9 . _ -} and
     * starts with a letter or a digit. The call is not retried, and the server removes an incomplete backup when it
     * ends.
     *
     * <p>Reasons: {@code INVALID_FIELD}, {@code BACKUP_NOT_CONFIGURED}, {@code BACKUP_ALREADY_EXISTS},
     * {@code BACKUP_FAILED}, {@code OVERLOADED} (a backup is already running).
     */
    public BackupDatabaseResponse backupDatabase(String fileName, Duration timeout) {
        BackupDatabaseRequest request =
                BackupDatabaseRequest.newBuilder().setFileName(Requests.required("file_name", fileName)).build();
        return connection.callOnce(ServerServiceGrpc.getBackupDatabaseMethod(), request, Attempts.limit("timeout", timeout));
    }

    private static <B> B built(B builder, Consumer<? super B> settings) {
        settings.accept(builder);
        return builder;
    }

    /** The settings of a client. */
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

        /** Connects with TLS; without this, in plain text. */
        public Builder tls(TlsOptions options) {
            tls = Objects.requireNonNull(options, "options");
            return this;
        }

        /**
         * Limits each call, including retries. 30 s unless set. More than ten years removes the limit. Zero and a
         * negative duration are rejected. See also {@link #withTimeout}.
         */
        public Builder timeout(Duration bound) {
            Attempts.limit("timeout", bound);
            timeout = bound;
            return this;
        }

        /** Says how calls are sent again. */
        public Builder retries(CallRetryPolicy policy) {
            retries = Objects.requireNonNull(policy, "policy");
            return this;
        }

        /** Sends a header with every call: {@code header("authorization", "Bearer ...")}. */
        public Builder header(String name, String value) {
            headers.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
            return this;
        }

        /** Changes the gRPC channel before it is built: interceptors, executors, a proxy. */
        public Builder channel(Consumer<ManagedChannelBuilder<?>> customizer) {
            channel = Objects.requireNonNull(customizer, "customizer");
            return this;
        }

        /**
         * Makes the client.
         *
         * @throws java.io.UncheckedIOException for a PEM file that cannot be read
         */
        public PerdureClient build() {
            return new PerdureClient(new Connection(target, tls, headers, retries, channel), timeout);
        }
    }
}
