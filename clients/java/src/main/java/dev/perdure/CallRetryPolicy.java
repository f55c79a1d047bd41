package dev.perdure;

import java.time.Duration;

/**
 * Retry policy of the calls of a client. For the steps of a workflow, see {@link RetryPolicy}.
 *
 * <p>The client retries a call if {@link PerdureException#isRetryable()} is true, with the same request ID, until the
 * timeout of the call. The backoff after failure n is {@code min(maxBackoff, initialBackoff * multiplier^(n-1))},
 * randomly shortened by up to half so that clients do not retry in step. If the server asks for a longer pause, the
 * client waits that long.
 *
 * @param initialBackoff backoff after the first failure. Must be more than 0. Default: 100 ms
 * @param maxBackoff maximum backoff. Must be more than 0. Default: 5 s
 * @param multiplier factor between two backoffs, 1 to 1,000. Default: 2
 * @param maxAttempts maximum number of attempts; 0 means that only the timeout of the call limits them. Default: 0
 */
public record CallRetryPolicy(Duration initialBackoff, Duration maxBackoff, double multiplier, int maxAttempts) {
    private static final int MULTIPLIER_MAX = 1_000;

    /** Backoff of 100 ms, doubled up to 5 s, until the timeout of the call. */
    public static final CallRetryPolicy DEFAULT =
            new CallRetryPolicy(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 0);

    /** No retries. */
    public static final CallRetryPolicy NONE =
            new CallRetryPolicy(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 1);

    public CallRetryPolicy {
        Arguments.required("retries.initialBackoff", initialBackoff);
        Arguments.required("retries.maxBackoff", maxBackoff);
        check("initialBackoff", initialBackoff, initialBackoff.compareTo(Duration.ZERO) > 0, "more than 0");
        check("maxBackoff", maxBackoff, maxBackoff.compareTo(Duration.ZERO) > 0, "more than 0");
        check("multiplier", multiplier, multiplier >= 1 && multiplier <= MULTIPLIER_MAX, "1 to " + MULTIPLIER_MAX);
        check("maxAttempts", maxAttempts, maxAttempts >= 0, "at least 0");
    }

    private static void check(String field, Object value, boolean valid, String rule) {
        if (!valid) {
            throw Arguments.invalid("retries." + field, "must be " + rule + ", not " + value);
        }
    }
}
