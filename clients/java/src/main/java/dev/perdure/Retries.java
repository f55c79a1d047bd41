package dev.perdure;

import java.time.Duration;
import java.util.Objects;

/**
 * How a client sends calls again that failed for a moment's reason.
 *
 * <p>The pause after n failures is {@code initial * multiplier^(n-1)}, at most {@code max}, or what the server asks for
 * where that is more; chance shortens it by up to a half so that clients do not come back in step. A call's timeout
 * bounds all of it.
 *
 * @param attemptsMax how often a call is sent at most; 0 means that only its timeout bounds it
 */
public record Retries(Duration initial, Duration max, double multiplier, int attemptsMax) {
    /** Maximum growth of the pause from one failure to the next. */
    private static final int MULTIPLIER_MAX = 1_000;

    /** 100 ms, doubled up to 5 s, for as long as the call may take. */
    public static final Retries DEFAULT = new Retries(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 0);

    /** Each call is sent once. */
    public static final Retries NONE = new Retries(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 1);

    public Retries {
        Objects.requireNonNull(initial, "initial");
        Objects.requireNonNull(max, "max");
        check("initial", initial, initial.compareTo(Duration.ZERO) > 0, "more than 0");
        check("max", max, max.compareTo(Duration.ZERO) > 0, "more than 0");
        check("multiplier", multiplier, multiplier >= 1 && multiplier <= MULTIPLIER_MAX, "1 to " + MULTIPLIER_MAX);
        check("attemptsMax", attemptsMax, attemptsMax >= 0, "at least 0");
    }

    private static void check(String field, Object value, boolean sound, String rule) {
        if (!sound) {
            throw Requests.invalid("retries." + field, "must be " + rule + ", not " + value);
        }
    }
}
