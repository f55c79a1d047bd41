package dev.perdure;

import java.time.Duration;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;
import java.util.function.DoubleSupplier;
import java.util.function.LongSupplier;

/**
 * Attempts of one call, or connections of one watch: decides which errors are retried, and after which pause.
 *
 * <p>Every call is safe to retry: reads change nothing, and every call that writes carries a request ID. No I/O; time
 * and randomness are arguments.
 */
final class Attempts {
    /** Longer than any process lives, and far from overflow when added to a reading of the clock. */
    static final long FOREVER_NANOS = Long.MAX_VALUE / 4;

    /** Ten years. A longer timeout means no limit. */
    static final long LIMIT_NANOS_MAX = TimeUnit.DAYS.toNanos(3_660);

    /** Maximum pause between two attempts, whatever the policy or the server asks for. */
    static final long PAUSE_NANOS_MAX = TimeUnit.DAYS.toNanos(1);

    /**
     * Number of failures in a row from which a watch is disconnected. A single failure is also what a renewed stream or
     * a server handover looks like.
     */
    static final int DISCONNECTED_FAILURES_MIN = 2;

    private final CallRetryPolicy retries;
    private final LongSupplier clock;
    private final DoubleSupplier random;
    private long deadline;
    private int failures;

    Attempts(CallRetryPolicy retries, long timeoutNanos, LongSupplier clock, DoubleSupplier random) {
        this.retries = retries;
        this.clock = clock;
        this.random = random;
        this.deadline = clock.getAsLong() + Math.min(timeoutNanos, FOREVER_NANOS);
    }

    /**
     * Returns a time limit in nanoseconds, {@link #FOREVER_NANOS} for more than ten years. Rejects null, zero and
     * negative durations.
     */
    static long limit(String field, Duration limit) {
        if (limit == null || limit.isZero() || limit.isNegative()) {
            throw Arguments.invalid(field, "must be more than 0, not " + limit);
        }
        long nanos = nanos(limit);
        return nanos > LIMIT_NANOS_MAX ? FOREVER_NANOS : nanos;
    }

    boolean isUnlimited() {
        return nanosLeft() > LIMIT_NANOS_MAX;
    }

    /** Returns the time left; never negative. */
    long nanosLeft() {
        return Math.max(0, deadline - clock.getAsLong());
    }

    /** Returns true exactly once for each row of failures: when a watch counts as disconnected. */
    boolean isNewlyDisconnected() {
        return failures == DISCONNECTED_FAILURES_MIN;
    }

    /**
     * Records a response of the server. Later failures are counted from 0, and only the reconnect timeout limits them.
     * Returns true if the watch was disconnected.
     */
    boolean responded() {
        boolean disconnected = failures >= DISCONNECTED_FAILURES_MIN;
        failures = 0;
        deadline = clock.getAsLong() + FOREVER_NANOS;
        return disconnected;
    }

    /**
     * Returns the pause before the next attempt in nanoseconds, or nothing if the error is final.
     *
     * @param reconnectNanos limit of the failures in a row, counted from the first of them
     */
    OptionalLong pauseAfter(PerdureException error, long reconnectNanos) {
        failures++;
        if (!error.isRetryable() || failures == retries.maxAttempts()) {
            return OptionalLong.empty();
        }
        if (failures == 1) {
            deadline = Math.min(deadline, clock.getAsLong() + Math.min(reconnectNanos, FOREVER_NANOS));
        }
        // The exponent is limited before the power is computed: a watch can fail for days.
        double growth = Math.pow(retries.multiplier(), Math.min(failures - 1, 32));
        double backoff = Math.min(
                Math.min(nanos(retries.maxBackoff()), PAUSE_NANOS_MAX), nanos(retries.initialBackoff()) * growth);
        long requested = Math.min(error.retryDelay().map(Attempts::nanos).orElse(0L), PAUSE_NANOS_MAX);
        long pause = Math.max((long) (backoff * (1 - random.getAsDouble() / 2)), requested);
        return pause < nanosLeft() ? OptionalLong.of(pause) : OptionalLong.empty();
    }

    /** Returns a duration in nanoseconds, at most {@link #FOREVER_NANOS}. */
    static long nanos(Duration duration) {
        return duration.compareTo(Duration.ofNanos(FOREVER_NANOS)) < 0 ? duration.toNanos() : FOREVER_NANOS;
    }
}
