package dev.perdure;

import java.time.Duration;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;
import java.util.function.DoubleSupplier;
import java.util.function.LongSupplier;

/**
 * The sendings of one call, or the connections of one watch: which errors are worth another one, after which pause.
 *
 * <p>Every call is safe to send again: reads change nothing, and every mutating call carries a request id. No I/O;
 * time and chance come from outside.
 */
final class Attempts {
    /** Longer than any process lives, and far from overflow when added to a clock's reading. */
    static final long FOREVER_NANOS = Long.MAX_VALUE / 4;

    /** Ten years. A longer timeout is the same as none. */
    static final long LIMIT_NANOS_MAX = TimeUnit.DAYS.toNanos(3_660);

    /** The longest pause between two sendings, whatever the settings or the server ask for. */
    static final long PAUSE_NANOS_MAX = TimeUnit.DAYS.toNanos(1);

    private final CallRetryPolicy retries;
    private final LongSupplier clock;
    private final DoubleSupplier chance;
    private long deadline;
    private int failures;

    Attempts(CallRetryPolicy retries, long timeoutNanos, LongSupplier clock, DoubleSupplier chance) {
        this.retries = retries;
        this.clock = clock;
        this.chance = chance;
        this.deadline = clock.getAsLong() + Math.min(timeoutNanos, FOREVER_NANOS);
    }

    /** Returns a time limit in nanoseconds, {@link #FOREVER_NANOS} for more than ten years. Rejects null, zero and less. */
    static long limit(String field, Duration limit) {
        if (limit == null || limit.isZero() || limit.isNegative()) {
            throw Requests.invalid(field, "must be more than 0, not " + limit);
        }
        long nanos = nanos(limit);
        return nanos > LIMIT_NANOS_MAX ? FOREVER_NANOS : nanos;
    }

    boolean isUnlimited() {
        return nanosLeft() > LIMIT_NANOS_MAX;
    }

    /** How long it may still take; never negative. */
    long nanosLeft() {
        return Math.max(0, deadline - clock.getAsLong());
    }

    /** Notes that the server answered: failures from now on are counted anew, and bounded by an outage. */
    void answered() {
        failures = 0;
        deadline = clock.getAsLong() + FOREVER_NANOS;
    }

    /**
     * Returns the pause before the next sending in nanoseconds, or nothing where the error is the answer.
     *
     * @param outageNanos bounds the failures in a row, from the first of them
     */
    OptionalLong pauseAfter(PerdureException error, long outageNanos) {
        failures++;
        if (!error.isTransient() || failures == retries.maxAttempts()) {
            return OptionalLong.empty();
        }
        if (failures == 1) {
            deadline = Math.min(deadline, clock.getAsLong() + Math.min(outageNanos, FOREVER_NANOS));
        }
        // The exponent is bounded before the power is taken: a watch may fail for days.
        double growth = Math.pow(retries.multiplier(), Math.min(failures - 1, 32));
        double ceiling = Math.min(
                Math.min(nanos(retries.maxBackoff()), PAUSE_NANOS_MAX), nanos(retries.initialBackoff()) * growth);
        long asked = Math.min(error.retryDelay().map(Attempts::nanos).orElse(0L), PAUSE_NANOS_MAX);
        long pause = Math.max((long) (ceiling * (1 - chance.getAsDouble() / 2)), asked);
        return pause < nanosLeft() ? OptionalLong.of(pause) : OptionalLong.empty();
    }

    /** A duration in nanoseconds, cut to {@link #FOREVER_NANOS}. */
    static long nanos(Duration duration) {
        return duration.compareTo(Duration.ofNanos(FOREVER_NANOS)) < 0 ? duration.toNanos() : FOREVER_NANOS;
    }
}
