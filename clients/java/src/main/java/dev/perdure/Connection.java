package dev.perdure;

import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** The channel and how calls go over it: deadlines, retries, errors. Knows no method of the API. */
final class Connection {
    /** After how long a silence a connection with open calls is pinged. Servers allow one ping each 10 s. */
    private static final int KEEPALIVE_SECONDS = 30;

    /** How long the answer to a ping may take before the connection counts as lost. */
    private static final int KEEPALIVE_TIMEOUT_SECONDS = 10;

    /** Above anything that a server sends: an instance's payloads are at most 3 MiB. */
    private static final int RECEIVE_BYTES_MAX = 16 << 20;

    /** An error's details, in base64 beside its message, may be more than the 8 KiB that gRPC takes by default. */
    private static final int METADATA_BYTES_MAX = 32 << 10;

    private final ManagedChannel managed;
    private final Channel channel;
    private final WatchConnections watches;
    private final Metadata headers;
    private final CallRetryPolicy retries;
    private final CountDownLatch closed = new CountDownLatch(1);

    Connection(
            String target,
            TlsOptions tls,
            Metadata headers,
            CallRetryPolicy retries,
            Consumer<ManagedChannelBuilder<?>> customizer) {
        ChannelCredentials credentials = credentials(tls);
        this.headers = headers;
        this.managed = connect(target, credentials, tls, customizer, false);
        this.channel = withHeaders(managed);
        this.watches = new WatchConnections(() -> connect(target, credentials, tls, customizer, true));
        this.retries = retries;
    }

    private static ManagedChannel connect(
            String target,
            ChannelCredentials credentials,
            TlsOptions tls,
            Consumer<ManagedChannelBuilder<?>> customizer,
            boolean forWatches) {
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(target, credentials)
                .keepAliveTime(KEEPALIVE_SECONDS, TimeUnit.SECONDS)
                .keepAliveTimeout(KEEPALIVE_TIMEOUT_SECONDS, TimeUnit.SECONDS)
                .keepAliveWithoutCalls(false)
                .maxInboundMessageSize(RECEIVE_BYTES_MAX)
                .maxInboundMetadataSize(METADATA_BYTES_MAX)
                .userAgent("perdure-java");
        if (tls != null && !tls.serverName().isEmpty()) {
            builder.overrideAuthority(tls.serverName());
        }
        if (forWatches) {
            builder.idleTimeout(WatchConnections.IDLE_SECONDS, TimeUnit.SECONDS);
        }
        customizer.accept(builder);
        return builder.build();
    }

    private Channel withHeaders(Channel plain) {
        return headers.keys().isEmpty()
                ? plain
                : ClientInterceptors.intercept(plain, MetadataUtils.newAttachHeadersInterceptor(headers));
    }

    private static ChannelCredentials credentials(TlsOptions tls) {
        try {
            return tls == null ? InsecureChannelCredentials.create() : tls.credentials();
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
    }

    /** Sends a request until it is answered, or refused for good, or {@code timeoutNanos} are over. */
    <Q extends Message, A> A call(MethodDescriptor<Q, A> method, Q request, String requestId, long timeoutNanos) {
        return call(method, request, requestId, attempts(timeoutNanos));
    }

    /** Sends a request once, whatever the client's retries are. */
    <Q extends Message, A> A callOnce(MethodDescriptor<Q, A> method, Q request, long timeoutNanos) {
        return call(method, request, "", attempts(CallRetryPolicy.NONE, timeoutNanos));
    }

    private <Q extends Message, A> A call(
            MethodDescriptor<Q, A> method, Q request, String requestId, Attempts attempts) {
        Requests.check(request, requestId);
        PerdureException before = null;
        while (true) {
            checkOpen(null);
            boolean unlimited = attempts.isUnlimited();
            CallOptions options = unlimited
                    ? CallOptions.DEFAULT
                    : CallOptions.DEFAULT.withDeadlineAfter(attempts.nanosLeft(), TimeUnit.NANOSECONDS);
            try {
                return ClientCalls.blockingUnaryCall(channel, method, options, request);
            } catch (StatusRuntimeException failed) {
                checkOpen(failed);
                PerdureException error = Errors.of(failed.getStatus(), failed.getTrailers(), requestId);
                if (unlimited
                        && error.status() == Status.Code.DEADLINE_EXCEEDED
                        && Context.current().getDeadline() == null) {
                    // The server's own limit does not end a call that has none.
                    error = PerdureException.local(Status.Code.UNAVAILABLE, error.getMessage(), requestId, error);
                }
                if (before != null && error.status() == Status.Code.DEADLINE_EXCEEDED) {
                    error.addSuppressed(before); // the deadline alone does not tell what used the time up
                }
                before = error;
                if (Thread.currentThread().isInterrupted() || Context.current().isCancelled()) {
                    throw error; // the caller's own doing: nobody waits for another try
                }
                OptionalLong pause = attempts.pauseAfter(error, Attempts.FOREVER_NANOS);
                if (pause.isEmpty()) {
                    throw error;
                }
                reconnectSoon(error);
                pause(pause.getAsLong(), error);
            }
        }
    }

    /** Returns a place for a watch, on a connection of watches only. */
    WatchConnections.Place place() {
        checkOpen(null);
        return watches.acquire();
    }

    /** Number of watches on each open watch connection. */
    List<Integer> watches() {
        return watches.watches();
    }

    /** Starts a streaming call that lives at most {@code nanos}. */
    <Q, A> ClientCall<Q, A> stream(WatchConnections.Place place, MethodDescriptor<Q, A> method, long nanos) {
        // The listener only queues what it hears, so the transport's own thread may run it.
        return withHeaders(place.channel())
                .newCall(
                        method,
                        CallOptions.DEFAULT
                                .withDeadlineAfter(nanos, TimeUnit.NANOSECONDS)
                                .withExecutor(Runnable::run));
    }

    Attempts attempts(long timeoutNanos) {
        return attempts(retries, timeoutNanos);
    }

    private static Attempts attempts(CallRetryPolicy retries, long timeoutNanos) {
        return new Attempts(
                retries, timeoutNanos, System::nanoTime, () -> ThreadLocalRandom.current().nextDouble());
    }

    /**
     * Dials at once if the connection is lost. Left alone, gRPC waits up to two minutes between its own attempts, which
     * no call that is retried every few seconds can see from outside.
     */
    void reconnectSoon(PerdureException error) {
        if (error.status() == Status.Code.UNAVAILABLE) {
            managed.resetConnectBackoff();
            watches.resetConnectBackoff();
        }
    }

    private void pause(long nanos, PerdureException error) {
        try {
            if (closed.await(nanos, TimeUnit.NANOSECONDS)) {
                checkOpen(error);
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw error;
        }
    }

    boolean isClosed() {
        return closed.getCount() == 0;
    }

    private void checkOpen(Throwable cause) {
        if (isClosed()) {
            throw new IllegalStateException("the client is closed", cause);
        }
    }

    void close() {
        closed.countDown();
        watches.close();
        managed.shutdownNow();
    }
}
