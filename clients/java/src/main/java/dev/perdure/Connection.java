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

/** Channels of a client, and the deadlines, retries and errors of its calls. Independent of the methods of the API. */
final class Connection {
    /** Silence after which a connection with open calls is pinged. Servers allow one ping every 10 s. */
    private static final int KEEPALIVE_SECONDS = 30;

    /** Maximum response time of a ping. After it, the connection is closed. */
    private static final int KEEPALIVE_TIMEOUT_SECONDS = 10;

    /** Larger than any message of a server: the payloads of an instance are at most 3 MiB. */
    private static final int RECEIVE_BYTES_MAX = 16 << 20;

    /** The details of an error, in base64, can exceed the 8 KiB that gRPC accepts by default. */
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

    /** Sends a request until it succeeds, fails with a final error, or {@code timeoutNanos} have passed. */
    <Q extends Message, A> A call(MethodDescriptor<Q, A> method, Q request, String requestId, long timeoutNanos) {
        return call(method, request, requestId, attempts(timeoutNanos));
    }

    /** Sends a request without retries, whatever the retry policy of the client. */
    <Q extends Message, A> A callOnce(MethodDescriptor<Q, A> method, Q request, long timeoutNanos) {
        return call(method, request, "", attempts(CallRetryPolicy.NONE, timeoutNanos));
    }

    private <Q extends Message, A> A call(
            MethodDescriptor<Q, A> method, Q request, String requestId, Attempts attempts) {
        Arguments.check(request, requestId);
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
                        && error.code() == Status.Code.DEADLINE_EXCEEDED
                        && Context.current().getDeadline() == null) {
                    // A limit of the server does not end a call without a timeout.
                    error = PerdureException.local(Status.Code.UNAVAILABLE, error.getMessage(), requestId, error);
                }
                if (before != null && error.code() == Status.Code.DEADLINE_EXCEEDED) {
                    error.addSuppressed(before); // it shows what used up the time
                }
                before = error;
                if (Thread.currentThread().isInterrupted() || Context.current().isCancelled()) {
                    throw error; // the caller cancelled: do not retry
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

    /** Returns a place for a watch, on a connection that carries only watches. */
    WatchConnections.Place place() {
        checkOpen(null);
        return watches.acquire();
    }

    /** Number of watches on each open watch connection. */
    List<Integer> watches() {
        return watches.watches();
    }

    /** Creates a streaming call with a deadline after {@code nanos}. */
    <Q, A> ClientCall<Q, A> stream(WatchConnections.Place place, MethodDescriptor<Q, A> method, long nanos) {
        // The listener only queues messages, so it can run on the transport's thread.
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
     * Reconnects at once if the connection is lost. On its own, gRPC waits up to two minutes between its attempts, and
     * calls that are retried every few seconds do not shorten that.
     */
    void reconnectSoon(PerdureException error) {
        if (error.code() == Status.Code.UNAVAILABLE) {
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
            throw new IllegalStateException("client is closed", cause);
        }
    }

    void close() {
        closed.countDown();
        watches.close();
        managed.shutdownNow();
    }
}
