package dev.perdure;

import dev.perdure.v1.InstanceServiceGrpc;
import dev.perdure.v1.WatchInstanceRequest;
import dev.perdure.v1.WatchInstanceResponse;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Watch of an instance: a {@link WatchEvent.Snapshot}, each later {@link WatchEvent.Entry} once and in order, then a
 * {@link WatchEvent.End}.
 *
 * <pre>{@code
 * try (Watch watch = client.watchInstance(id)) {
 *     for (WatchEvent event : watch) {
 *         if (event instanceof WatchEvent.Entry entry) {
 *             System.out.println(entry.revision() + " " + entry.entry().kind());
 *         }
 *     }
 * }
 * }</pre>
 *
 * <p>If the connection is lost or the server restarts, the watch reconnects and continues after the last revision that
 * it returned. Read a watch from one thread. Any thread can call {@link #close()}, which ends the iteration. There is
 * only one iteration: {@link #iterator()} returns the watch itself.
 */
public final class Watch implements Iterator<WatchEvent>, Iterable<WatchEvent>, AutoCloseable {
    /** Maximum duration of one stream. A hung server goes unnoticed at most this long. */
    private static final long STREAM_NANOS_MAX = TimeUnit.SECONDS.toNanos(600);

    /** Maximum number of queued messages. The server buffers the rest, and can end the stream of a slow reader. */
    private static final int MESSAGES_WAITING_MAX = 16;

    /** Message of a stream, or its end. Without a stream: the watch was closed. */
    private record Signal(Stream stream, WatchInstanceResponse message, Status status, Metadata trailers) {}

    private final Connection connection;
    private final String instanceId;
    private final WatchOptions options;
    private final long reconnectNanos;
    private final Attempts whole;
    private final long firstResponseNanos;
    // Flow control limits it: a stream requests MESSAGES_WAITING_MAX messages, and one more for each that is taken.
    private final BlockingQueue<Signal> signals = new LinkedBlockingQueue<>();
    private Attempts attempts;
    private Long afterRevision;
    private long connectAt = System.nanoTime();
    private WatchEvent peeked;
    private boolean ended;
    private volatile Stream stream;
    private volatile boolean closed;

    Watch(Connection connection, String instanceId, Long afterRevision, WatchOptions options, long timeoutNanos) {
        this.connection = connection;
        this.instanceId = instanceId;
        this.afterRevision = afterRevision;
        this.options = options;
        this.reconnectNanos = Attempts.limit("reconnectTimeout", options.reconnectTimeout());
        this.whole = connection.attempts(options.timeout()
                .map(limit -> Attempts.limit("timeout", limit))
                .orElse(Attempts.FOREVER_NANOS));
        this.firstResponseNanos = timeoutNanos;
        Arguments.check(request(), "");
    }

    @Override
    public Iterator<WatchEvent> iterator() {
        return this;
    }

    /**
     * Waits for the next event. Returns false if there is none.
     *
     * @throws PerdureException if the watch failed. {@link PerdureException#code()} is {@code DEADLINE_EXCEEDED} if the
     *     timeout of the watch has passed, and {@code UNAVAILABLE} if the server was away for longer than the reconnect
     *     timeout
     */
    @Override
    public boolean hasNext() {
        if (peeked == null) {
            peeked = await(Attempts.FOREVER_NANOS);
        }
        return peeked != null;
    }

    @Override
    public WatchEvent next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        WatchEvent event = peeked;
        peeked = null;
        return event;
    }

    /**
     * Waits for the next event for at most {@code timeout}. Returns nothing if no event arrived or the watch is over.
     *
     * @throws PerdureException as {@link #hasNext()} does
     */
    public Optional<WatchEvent> poll(Duration timeout) {
        WatchEvent event = peeked == null ? await(Math.max(0, Attempts.nanos(timeout))) : peeked;
        peeked = null;
        return Optional.ofNullable(event);
    }

    /** Returns true if no further event will arrive. */
    public boolean isOver() {
        return peeked == null && (ended || closed);
    }

    /** Ends the watch. Does not affect the instance. Can be called twice, and from any thread. */
    @Override
    public void close() {
        closed = true;
        cancelStream();
        signals.add(new Signal(null, null, null, null));
    }

    private WatchEvent await(long timeoutNanos) {
        long returnAt = System.nanoTime() + timeoutNanos;
        while (!ended && !closed) {
            long now = System.nanoTime();
            if (stream == null && now - connectAt >= 0) {
                connect();
            }
            long until = stream == null && connectAt - returnAt < 0 ? connectAt : returnAt;
            Signal signal = take(until - now);
            if (signal == null) {
                if (System.nanoTime() - returnAt >= 0) {
                    return null;
                }
            } else if (signal.stream() != null && signal.stream() == stream) {
                WatchEvent event = signal.message() == null ? broken(signal) : received(signal.message());
                if (event != null) {
                    return event;
                }
            }
        }
        return null;
    }

    private Signal take(long nanos) {
        try {
            return signals.poll(nanos, TimeUnit.NANOSECONDS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw PerdureException.local(Status.Code.CANCELLED, "thread interrupted while watching", "", interrupted);
        }
    }

    private void connect() {
        if (attempts == null) {
            attempts = connection.attempts(Math.min(firstResponseNanos, whole.nanosLeft()));
        }
        long nanosLeft = whole.nanosLeft();
        WatchConnections.Place place = connection.place();
        Stream opened = new Stream(
                place,
                connection.stream(
                        place, InstanceServiceGrpc.getWatchInstanceMethod(), Math.min(STREAM_NANOS_MAX, nanosLeft)),
                nanosLeft <= STREAM_NANOS_MAX);
        stream = opened;
        opened.begin(request());
        if (closed) {
            // close() can have run before it could see this stream.
            cancelStream();
        }
    }

    private WatchInstanceRequest request() {
        WatchInstanceRequest.Builder request = WatchInstanceRequest.newBuilder().setInstanceId(instanceId);
        if (afterRevision != null) {
            request.setAfterRevision(afterRevision);
        }
        return request.build();
    }

    private WatchEvent received(WatchInstanceResponse message) {
        if (attempts.responded()) {
            callBack(options.onReconnect());
        }
        stream.call.request(1);
        switch (message.getEventCase()) {
            case SNAPSHOT:
                afterRevision = message.getSnapshot().getRevision();
                return new WatchEvent.Snapshot(Convert.instance(message.getSnapshot()));
            case ENTRY:
                long revision = message.getEntry().getRevision();
                if (afterRevision != null && revision != afterRevision + 1) {
                    // Fails loudly: a reader that derives state from the entries would be wrong from here on.
                    throw over(PerdureException.local(
                            Status.Code.DATA_LOSS,
                            "watch of instance '" + instanceId + "' returned revision " + revision + " after revision "
                                    + afterRevision,
                            "",
                            null));
                }
                afterRevision = revision;
                return new WatchEvent.Entry(Convert.entry(message.getEntry()));
            case END:
                WatchEndReason reason = Convert.watchEndReason(message.getEnd().getReason());
                if (reason == WatchEndReason.SERVER_DRAINING || reason == WatchEndReason.TOO_SLOW) {
                    return null; // the stream ends now, and the next one continues
                }
                ended = true;
                cancelStream();
                return new WatchEvent.End(message.getEnd().getRevision(), reason);
            default: // a heartbeat, or a message of a newer server
                return null;
        }
    }

    /** Records the end of a stream and the time to reconnect. Always returns null. Throws if the watch is over. */
    private WatchEvent broken(Signal signal) {
        stream = null;
        PerdureException error;
        if (connection.isClosed()) {
            ended = true;
            throw new IllegalStateException("client is closed");
        } else if (signal.status().isOk()) {
            error = PerdureException.local(
                    Status.Code.UNAVAILABLE,
                    "stream of the watch of instance '" + instanceId + "' ended early",
                    "",
                    null);
        } else {
            error = Errors.of(signal.status(), signal.trailers(), "");
        }
        if (error.code() == Status.Code.DEADLINE_EXCEEDED && !signal.stream().last) {
            // The stream reached its own time limit, not the one of the watch. It is renewed.
            error = PerdureException.local(Status.Code.UNAVAILABLE, "stream reached its time limit", "", error);
        }
        OptionalLong pause = attempts.pauseAfter(error, reconnectNanos);
        if (pause.isEmpty()) {
            throw over(error);
        }
        if (pause.getAsLong() > whole.nanosLeft()) {
            throw over(PerdureException.local(
                    Status.Code.DEADLINE_EXCEEDED,
                    "instance '" + instanceId + "' did not end within the timeout of the watch",
                    "",
                    error));
        }
        connection.reconnectSoon(error);
        connectAt = System.nanoTime() + pause.getAsLong();
        if (attempts.isNewlyDisconnected()) {
            PerdureException cause = error;
            callBack(() -> options.onDisconnect().accept(cause));
        }
        return null;
    }

    /** Runs a callback. An exception ends the watch: it may have replaced an event, so continuing would leave a gap. */
    private void callBack(Runnable callback) {
        try {
            callback.run();
        } catch (RuntimeException failed) {
            ended = true;
            cancelStream();
            throw failed;
        }
    }

    private PerdureException over(PerdureException error) {
        ended = true;
        cancelStream();
        return error;
    }

    private void cancelStream() {
        Stream current = stream;
        if (current != null) {
            current.call.cancel("watch closed", null);
            current.place.close();
        }
    }

    private final class Stream extends ClientCall.Listener<WatchInstanceResponse> {
        private final WatchConnections.Place place;
        private final ClientCall<WatchInstanceRequest, WatchInstanceResponse> call;

        /** True if the timeout of the watch limits the stream. */
        private final boolean last;

        Stream(
                WatchConnections.Place place,
                ClientCall<WatchInstanceRequest, WatchInstanceResponse> call,
                boolean last) {
            this.place = place;
            this.call = call;
            this.last = last;
        }

        void begin(WatchInstanceRequest request) {
            call.start(this, new Metadata());
            call.request(MESSAGES_WAITING_MAX);
            call.sendMessage(request);
            call.halfClose();
        }

        @Override
        public void onMessage(WatchInstanceResponse message) {
            signals.add(new Signal(this, message, null, null));
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            place.close();
            signals.add(new Signal(this, null, status, trailers));
        }
    }
}
