package dev.perdure;

import dev.perdure.v1.InstanceServiceGrpc;
import dev.perdure.v1.WatchEndReason;
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
 * What happens to an instance, as it happens: a {@link WatchEvent.Snapshot}, each later {@link WatchEvent.Entry} once
 * and in order, then a {@link WatchEvent.End}.
 *
 * <pre>{@code
 * try (Watch watch = client.watchInstance(id)) {
 *     for (WatchEvent event : watch) {
 *         if (event instanceof WatchEvent.Entry entry) {
 *             System.out.println(entry.revision() + " " + entry.entry().getFactCase());
 *         }
 *     }
 * }
 * }</pre>
 *
 * <p>A stream that breaks, because the connection is lost or the server restarts, is taken up again after the last
 * revision given out; the reader notices nothing but a pause. One thread reads; any thread may {@link #close()}, which
 * ends the iteration. There is one iteration: {@link #iterator()} gives the watch itself.
 */
public final class Watch implements Iterator<WatchEvent>, Iterable<WatchEvent>, AutoCloseable {
    /** How long one stream lives before the next takes over: a bound on what a hung server can hide. */
    private static final long STREAM_NANOS_MAX = TimeUnit.SECONDS.toNanos(600);

    /** How many messages wait here for a slow reader; more are left to the server, which may end the stream. */
    private static final int MESSAGES_WAITING_MAX = 16;

    /** Something that a stream said: a message, or its end. {@code stream} null: the watch was closed. */
    private record Signal(Stream stream, WatchInstanceResponse message, Status status, Metadata trailers) {}

    private final Connection connection;
    private final String instanceId;
    private final long outageNanos;
    private final Attempts whole;
    private final long firstAnswerNanos;
    // Bounded by flow control: a stream is asked for MESSAGES_WAITING_MAX messages and for one more as each is taken.
    private final BlockingQueue<Signal> signals = new LinkedBlockingQueue<>();
    private Attempts attempts;
    private Long afterRevision;
    private long dialAt = System.nanoTime();
    private WatchEvent peeked;
    private boolean ended;
    private volatile Stream stream;
    private volatile boolean closed;

    Watch(Connection connection, String instanceId, Long afterRevision, WatchOptions options, long timeoutNanos) {
        this.connection = connection;
        this.instanceId = instanceId;
        this.afterRevision = afterRevision;
        this.outageNanos = Attempts.limit("outage", options.outage());
        this.whole = connection.attempts(options.timeout()
                .map(bound -> Attempts.limit("timeout", bound))
                .orElse(Attempts.FOREVER_NANOS));
        this.firstAnswerNanos = timeoutNanos;
        Requests.check(request(), "");
    }

    @Override
    public Iterator<WatchEvent> iterator() {
        return this;
    }

    /**
     * Waits for the next event; false once there is none.
     *
     * @throws PerdureException by reason: {@code INSTANCE_NOT_FOUND}, {@code REVISION_IN_FUTURE},
     *     {@code REVISION_COMPACTED}; by status: {@code DEADLINE_EXCEEDED} when the watch's timeout is over,
     *     {@code UNAVAILABLE} when the server stayed away for too long
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
     * Waits for the next event for at most {@code patience}; nothing where none came, or where {@link #isOver()}.
     *
     * @throws PerdureException as {@link #hasNext()} does
     */
    public Optional<WatchEvent> poll(Duration patience) {
        WatchEvent event = peeked == null ? await(Math.max(0, Attempts.nanos(patience))) : peeked;
        peeked = null;
        return Optional.ofNullable(event);
    }

    /** Whether no event will come any more. */
    public boolean isOver() {
        return peeked == null && (ended || closed);
    }

    /** Ends the watch; the instance does not notice. May be called twice, and from any thread. */
    @Override
    public void close() {
        closed = true;
        hangUp();
        signals.add(new Signal(null, null, null, null));
    }

    private WatchEvent await(long patienceNanos) {
        long giveUpAt = System.nanoTime() + patienceNanos;
        while (!ended && !closed) {
            long now = System.nanoTime();
            if (stream == null && now - dialAt >= 0) {
                dial();
            }
            long until = stream == null && dialAt - giveUpAt < 0 ? dialAt : giveUpAt;
            Signal signal = take(until - now);
            if (signal == null) {
                if (System.nanoTime() - giveUpAt >= 0) {
                    return null;
                }
            } else if (signal.stream() != null && signal.stream() == stream) {
                WatchEvent event = signal.message() == null ? broken(signal) : told(signal.message());
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
            throw PerdureException.local(
                    Status.Code.CANCELLED, "the thread was interrupted while it watched", "", interrupted);
        }
    }

    private void dial() {
        if (attempts == null) {
            attempts = connection.attempts(Math.min(firstAnswerNanos, whole.nanosLeft()));
        }
        long nanosLeft = whole.nanosLeft();
        WatchConnections.Place place = connection.place();
        Stream dialled = new Stream(
                place,
                connection.stream(
                        place, InstanceServiceGrpc.getWatchInstanceMethod(), Math.min(STREAM_NANOS_MAX, nanosLeft)),
                nanosLeft <= STREAM_NANOS_MAX);
        stream = dialled;
        dialled.begin(request());
        if (closed) {
            // `close` ran in between, and may have looked for a stream before there was this one.
            hangUp();
        }
    }

    private WatchInstanceRequest request() {
        WatchInstanceRequest.Builder request = WatchInstanceRequest.newBuilder().setInstanceId(instanceId);
        if (afterRevision != null) {
            request.setAfterRevision(afterRevision);
        }
        return request.build();
    }

    private WatchEvent told(WatchInstanceResponse message) {
        attempts.answered();
        stream.call.request(1);
        switch (message.getEventCase()) {
            case SNAPSHOT:
                afterRevision = message.getSnapshot().getRevision();
                return new WatchEvent.Snapshot(message.getSnapshot());
            case ENTRY:
                long revision = message.getEntry().getRevision();
                if (afterRevision != null && revision != afterRevision + 1) {
                    // The server promises better; told aloud, because who folds the entries would be wrong from here.
                    throw over(PerdureException.local(
                            Status.Code.DATA_LOSS,
                            "the watch of " + instanceId + " gave revision " + revision + " after " + afterRevision,
                            "",
                            null));
                }
                afterRevision = revision;
                return new WatchEvent.Entry(message.getEntry());
            case END:
                if (message.getEnd().getReason() == WatchEndReason.WATCH_END_REASON_SERVER_DRAINING
                        || message.getEnd().getReason() == WatchEndReason.WATCH_END_REASON_TOO_SLOW) {
                    return null; // the stream ends now, and the next one goes on
                }
                ended = true;
                hangUp();
                return new WatchEvent.End(message.getEnd());
            default: // a heartbeat, or something new
                return null;
        }
    }

    /** Notes a stream's end and when to dial again; always null. Throws where the watch is over. */
    private WatchEvent broken(Signal signal) {
        stream = null;
        PerdureException error;
        if (connection.isClosed()) {
            ended = true;
            throw new IllegalStateException("the client is closed");
        } else if (signal.status().isOk()) {
            error = PerdureException.local(
                    Status.Code.UNAVAILABLE, "the watch of " + instanceId + " broke off", "", null);
        } else {
            error = Errors.of(signal.status(), signal.trailers(), "");
        }
        if (error.status() == Status.Code.DEADLINE_EXCEEDED && !signal.stream().last) {
            // A stream that reached its own bound, and not the watch's, is only due for renewal.
            error = PerdureException.local(
                    Status.Code.UNAVAILABLE, "the stream reached its time bound", "", error);
        }
        OptionalLong pause = attempts.pauseAfter(error, outageNanos);
        if (pause.isEmpty()) {
            throw over(error);
        }
        if (pause.getAsLong() > whole.nanosLeft()) {
            throw over(PerdureException.local(
                    Status.Code.DEADLINE_EXCEEDED, instanceId + " did not end within the watch's timeout", "", error));
        }
        connection.reconnectSoon(error);
        dialAt = System.nanoTime() + pause.getAsLong();
        return null;
    }

    private PerdureException over(PerdureException error) {
        ended = true;
        hangUp();
        return error;
    }

    private void hangUp() {
        Stream current = stream;
        if (current != null) {
            current.call.cancel("the watch was closed", null);
            current.place.close();
        }
    }

    private final class Stream extends ClientCall.Listener<WatchInstanceResponse> {
        private final WatchConnections.Place place;
        private final ClientCall<WatchInstanceRequest, WatchInstanceResponse> call;

        /** Whether the watch's own timeout bounds it. */
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
