package dev.perdure;

import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * The optional side of a watch.
 *
 * @param afterRevision where to go on: no snapshot then, only the entries after it; 0 gives the whole history
 * @param timeout limits the watch; empty or more than ten years: no limit. Must be more than 0
 * @param outage how long the server can be unavailable once it has responded. Must be more than 0
 */
public record WatchOptions(OptionalLong afterRevision, Optional<Duration> timeout, Duration outage) {
    /** A snapshot first, for ever, and outages of five minutes. */
    public static final WatchOptions DEFAULT =
            new WatchOptions(OptionalLong.empty(), Optional.empty(), Duration.ofMinutes(5));

    public WatchOptions {
        Objects.requireNonNull(afterRevision, "afterRevision");
        Objects.requireNonNull(timeout, "timeout");
        timeout.ifPresent(bound -> Attempts.limit("timeout", bound));
        Attempts.limit("outage", outage);
    }

    public WatchOptions withAfterRevision(long revision) {
        return new WatchOptions(OptionalLong.of(revision), timeout, outage);
    }

    public WatchOptions withTimeout(Duration bound) {
        return new WatchOptions(afterRevision, Optional.of(bound), outage);
    }

    public WatchOptions withOutage(Duration bound) {
        return new WatchOptions(afterRevision, timeout, bound);
    }
}
