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
    /** 100 ms, doubled up to 5 s, for as long as the call may take. */
    public static final Retries DEFAULT = new Retries(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 0);

    /** Each call is sent once. */
    public static final Retries NONE = new Retries(Duration.ofMillis(100), Duration.ofSeconds(5), 2.0, 1);

    public Retries {
        Objects.requireNonNull(initial, "initial");
        Objects.requireNonNull(max, "max");
        if (initial.isNegative() || max.isNegative() || !(multiplier >= 1) || attemptsMax < 0) {
            throw new IllegalArgumentException("pauses and attemptsMax are not negative, and multiplier is at least 1");
        }
    }
}
