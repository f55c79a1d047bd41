package dev.perdure;

import java.time.Duration;
import java.util.Objects;

/**
 * How a client sends calls again that failed for a moment's reason.
 *
 * <p>The pause after n failures is {@code initialBackoff * multiplier^(n-1)}, at most {@code maxBackoff}, or what the server asks for
 * where that is more; chance shortens it by up to a half so that clients do not come back in step. A call's timeout
 * bounds all of it.
 *
 * @param maxAttempts how often a call is sent at most; 0 means that only its timeout bounds it
 */
public record CallRetryPolicy(Duration initialBackoff, Duration maxBackoff, double multiplier, int maxAttempts) {
    /** Maximum growth of the pause from one failure to the next. */
    private static final int MULTIPLIER_MAX = 1_000;

    /** 100 ms, doubled up to 5 s, for as long as the call may take. */
    public static final CallRetryPolicy DEFAULT = new CallRetryPolicy(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 0);

    /** Each call is sent once. */
    public static final CallRetryPolicy NONE = new CallRetryPolicy(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 1);

    public CallRetryPolicy {
        Objects.requireNonNull(initialBackoff, "initialBackoff");
        Objects.requireNonNull(maxBackoff, "maxBackoff");
        check("input", initial, initial.compareTo(Duration.ZERO) > 0, "more than 0");
        check("max", max, max.compareTo(Duration.ZERO) > 0, "more than 0");
        check("multiplier", multiplier, multiplier >= 1 && multiplier <= MULTIPLIER_MAX, "1 to " + MULTIPLIER_MAX);
        check("maxAttempts", maxAttempts, maxAttempts >= 0, "at least 0");
    }

    private static void check(String field, Object value, boolean sound, String rule) {
        if (!sound) {
            throw Requests.invalid("retries." + field, "must be " + rule + ", not " + value);
        }
    }
}
