package dev.perdure;

import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.function.Consumer;

/**
 * Options of {@link PerdureClient#watchInstance}.
 *
 * <p>The thread that reads the watch calls {@code onDisconnect} and {@code onReconnect}. An exception that one of them
 * throws ends the watch.
 *
 * @param afterRevision revision after which the watch continues, without a snapshot; 0 returns the whole history.
 *     Empty: the watch starts with a snapshot
 * @param timeout maximum duration of the watch. Empty or more than ten years: no limit. Must be more than 0
 * @param reconnectTimeout maximum time without a server, once it has responded. Must be more than 0. Default: 5
 *     minutes
 * @param onDisconnect called with the error when a second connection in a row fails. A single failure is also what a
 *     renewed stream or a server handover looks like
 * @param onReconnect called when the server responds after {@code onDisconnect}
 */
public record WatchOptions(
        OptionalLong afterRevision,
        Optional<Duration> timeout,
        Duration reconnectTimeout,
        Consumer<PerdureException> onDisconnect,
        Runnable onReconnect) {
    /** Snapshot first, no time limit, a reconnect timeout of 5 minutes, and no callbacks. */
    public static final WatchOptions DEFAULT = new WatchOptions(
            OptionalLong.empty(), Optional.empty(), Duration.ofMinutes(5), error -> {}, () -> {});

    public WatchOptions {
        Objects.requireNonNull(afterRevision, "afterRevision");
        Objects.requireNonNull(timeout, "timeout");
        timeout.ifPresent(limit -> Attempts.limit("timeout", limit));
        Attempts.limit("reconnectTimeout", reconnectTimeout);
        Arguments.required("onDisconnect", onDisconnect);
        Arguments.required("onReconnect", onReconnect);
    }

    /** Returns these options with another {@code afterRevision}. */
    public WatchOptions withAfterRevision(long revision) {
        return new WatchOptions(OptionalLong.of(revision), timeout, reconnectTimeout, onDisconnect, onReconnect);
    }

    /** Returns these options with another {@code timeout}. */
    public WatchOptions withTimeout(Duration limit) {
        Optional<Duration> given = Optional.of(Arguments.required("timeout", limit));
        return new WatchOptions(afterRevision, given, reconnectTimeout, onDisconnect, onReconnect);
    }

    /** Returns these options with another {@code reconnectTimeout}. */
    public WatchOptions withReconnectTimeout(Duration limit) {
        return new WatchOptions(afterRevision, timeout, limit, onDisconnect, onReconnect);
    }

    /** Returns these options with another {@code onDisconnect}. */
    public WatchOptions withOnDisconnect(Consumer<PerdureException> callback) {
        return new WatchOptions(afterRevision, timeout, reconnectTimeout, callback, onReconnect);
    }

    /** Returns these options with another {@code onReconnect}. */
    public WatchOptions withOnReconnect(Runnable callback) {
        return new WatchOptions(afterRevision, timeout, reconnectTimeout, onDisconnect, callback);
    }
}
