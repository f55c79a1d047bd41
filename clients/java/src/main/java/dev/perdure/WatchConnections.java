package dev.perdure;

import io.grpc.ManagedChannel;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Supplier;

/**
 * Connections that carry only watches, of one client.
 *
 * <p>A server accepts a limited number of streams per connection (256 by default). A connection that is full of watches
 * makes every further call wait until a watch ends, so watches never share a connection with other calls.
 */
final class WatchConnections {
    /** Maximum number of watches on one connection. Proxies and servers commonly accept 100 to 128 streams. */
    static final int WATCHES_PER_CONNECTION = 100;

    /** Maximum number of open channels without a watch, kept for the next one. gRPC disconnects them when idle. */
    static final int IDLE_CONNECTIONS_MAX = 1;

    /** Time after which an unused watch connection disconnects. */
    static final int IDLE_SECONDS = 30;

    private final Supplier<ManagedChannel> connect;
    private final List<Connected> open = new ArrayList<>();
    private boolean closed;

    WatchConnections(Supplier<ManagedChannel> connect) {
        this.connect = connect;
    }

    private static final class Connected {
        private final ManagedChannel channel;
        private int watches;

        Connected(ManagedChannel channel) {
            this.channel = channel;
        }
    }

    /** A watch's place on a connection. Closing it more than once has no effect. */
    final class Place implements AutoCloseable {
        private final Connected connected;
        private final AtomicBoolean released = new AtomicBoolean();

        private Place(Connected connected) {
            this.connected = connected;
        }

        ManagedChannel channel() {
            return connected.channel;
        }

        @Override
        public void close() {
            if (!released.getAndSet(true)) {
                release(connected);
            }
        }
    }

    /** Returns a place on a connection with room. Opens a connection if all are full. */
    synchronized Place acquire() {
        if (closed) {
            throw new IllegalStateException("client is closed");
        }
        // The first one with room, so that the later ones become empty and can be closed.
        Connected found = open.stream()
                .filter(connected -> connected.watches < WATCHES_PER_CONNECTION)
                .findFirst()
                .orElse(null);
        if (found == null) {
            found = new Connected(connect.get());
            open.add(found);
        }
        found.watches++;
        return new Place(found);
    }

    private synchronized void release(Connected used) {
        used.watches--;
        if (closed || used.watches > 0) {
            return;
        }
        long unused = open.stream().filter(connected -> connected.watches == 0).count();
        if (unused > IDLE_CONNECTIONS_MAX) {
            open.remove(used);
            used.channel.shutdown();
        }
    }

    /** Reconnects lost connections at once. */
    synchronized void resetConnectBackoff() {
        open.forEach(connected -> connected.channel.resetConnectBackoff());
    }

    /** Ends every watch and opens no more. */
    synchronized void close() {
        closed = true;
        open.forEach(connected -> connected.channel.shutdownNow());
        open.clear();
    }

    /** Number of watches on each open connection. */
    synchronized List<Integer> watches() {
        return open.stream().map(connected -> connected.watches).toList();
    }
}
