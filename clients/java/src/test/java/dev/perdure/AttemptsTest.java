package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class AttemptsTest {
    private static final long SECOND = 1_000_000_000L;

    private long now = 5 * SECOND;
    private double random = 0;

    private Attempts attempts(CallRetryPolicy retries, long seconds) {
        return new Attempts(retries, seconds * SECOND, () -> now, () -> random);
    }

    private static PerdureException error(Status.Code status, String reason, Duration retryDelay) {
        return new PerdureException(status, "", reason, Map.of(), List.of(), null, retryDelay, "", null);
    }

    private static PerdureException unavailable() {
        return error(Status.Code.UNAVAILABLE, "", null);
    }

    @Test
    void backoff_doubles_up_to_the_maximum() {
        Attempts attempts = attempts(CallRetryPolicy.DEFAULT, 100);

        for (double seconds : new double[] {0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5}) {
            OptionalLong pause = attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS);
            assertEquals(Math.round(seconds * SECOND), pause.orElseThrow(), SECOND / 1_000_000);
        }
    }

    @Test
    void jitter_shortens_the_backoff_by_up_to_half() {
        random = 1;

        OptionalLong pause = attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(unavailable(), Attempts.FOREVER_NANOS);

        assertEquals(SECOND / 20, pause.orElseThrow());
    }

    @Test
    void the_server_can_lengthen_the_backoff_but_not_shorten_it() {
        PerdureException later = error(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED", Duration.ofSeconds(7));
        PerdureException sooner = error(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED", Duration.ofMillis(1));

        assertEquals(7 * SECOND, attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(later, SECOND * 99).orElseThrow());
        assertEquals(SECOND / 10, attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(sooner, SECOND * 99).orElseThrow());
    }

    @Test
    void a_pause_longer_than_the_timeout_ends_the_call() {
        Attempts attempts = attempts(CallRetryPolicy.DEFAULT, 1);
        now += SECOND * 95 / 100;

        assertTrue(attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS).isEmpty());
    }

    @Test
    void only_retryable_errors_are_retried() {
        for (PerdureException error : List.of(
                error(Status.Code.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE", null),
                error(Status.Code.RESOURCE_EXHAUSTED, "", null),
                error(Status.Code.NOT_FOUND, "INSTANCE_NOT_FOUND", null),
                error(Status.Code.DEADLINE_EXCEEDED, "", null),
                error(Status.Code.INTERNAL, "", null))) {
            assertTrue(attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(error, SECOND).isEmpty(), error.toString());
        }
        for (String reason : List.of("DATABASE_UNAVAILABLE", "COMMIT_UNKNOWN", "SHUTTING_DOWN", "NEWER_THAN_US", "")) {
            PerdureException error = error(Status.Code.UNAVAILABLE, reason, null);
            assertTrue(attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(error, SECOND).isPresent(), reason);
        }
    }

    @Test
    void max_attempts_limits_the_attempts() {
        assertTrue(attempts(CallRetryPolicy.NONE, 100).pauseAfter(unavailable(), SECOND).isEmpty());
    }

    @Test
    void the_reconnect_timeout_counts_from_the_first_failure() {
        Attempts attempts = attempts(CallRetryPolicy.DEFAULT, 1);
        attempts.responded();
        now += 3_600 * SECOND;

        assertTrue(attempts.pauseAfter(unavailable(), 10 * SECOND).isPresent());
        now += 9 * SECOND;
        attempts.responded();
        assertTrue(attempts.pauseAfter(unavailable(), 10 * SECOND).isPresent());
        now += 10 * SECOND;
        assertTrue(attempts.pauseAfter(unavailable(), 10 * SECOND).isEmpty());
    }

    @Test
    void durations_beyond_64_bits_of_nanoseconds_are_unlimited() {
        assertEquals(Attempts.FOREVER_NANOS, Attempts.nanos(Duration.ofSeconds(Long.MAX_VALUE)));
    }

    @Test
    void a_second_failure_in_a_row_is_a_disconnect() {
        Attempts attempts = attempts(CallRetryPolicy.DEFAULT, 100);

        attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS);
        assertFalse(attempts.isNewlyDisconnected());
        assertFalse(attempts.responded());
        attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS);
        attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS);
        assertTrue(attempts.isNewlyDisconnected());
        attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS);
        assertFalse(attempts.isNewlyDisconnected());
        assertTrue(attempts.responded());
        assertFalse(attempts.responded());
    }
}
