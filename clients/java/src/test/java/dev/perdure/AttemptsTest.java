package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
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
    private double chance = 0;

    private Attempts attempts(CallRetryPolicy retries, long seconds) {
        return new Attempts(retries, seconds * SECOND, () -> now, () -> chance);
    }

    private static PerdureException error(Status.Code status, String reason, Duration retryDelay) {
        return new PerdureException(status, "", reason, Map.of(), List.of(), null, retryDelay, "", null);
    }

    private static PerdureException unavailable() {
        return error(Status.Code.UNAVAILABLE, "", null);
    }

    @Test
    void pauses_double_up_to_the_largest() {
        Attempts attempts = attempts(CallRetryPolicy.DEFAULT, 100);

        for (double seconds : new double[] {0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5}) {
            OptionalLong pause = attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS);
            assertEquals(Math.round(seconds * SECOND), pause.orElseThrow(), SECOND / 1_000_000);
        }
    }

    @Test
    void chance_takes_away_up_to_a_half() {
        chance = 1;

        OptionalLong pause = attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(unavailable(), Attempts.FOREVER_NANOS);

        assertEquals(SECOND / 20, pause.orElseThrow());
    }

    @Test
    void the_server_may_ask_for_more_and_not_for_less() {
        PerdureException later = error(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED", Duration.ofSeconds(7));
        PerdureException sooner = error(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED", Duration.ofMillis(1));

        assertEquals(7 * SECOND, attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(later, SECOND * 99).orElseThrow());
        assertEquals(SECOND / 10, attempts(CallRetryPolicy.DEFAULT, 100).pauseAfter(sooner, SECOND * 99).orElseThrow());
    }

    @Test
    void a_pause_that_would_outlast_the_timeout_is_not_begun() {
        Attempts attempts = attempts(CallRetryPolicy.DEFAULT, 1);
        now += SECOND * 95 / 100;

        assertTrue(attempts.pauseAfter(unavailable(), Attempts.FOREVER_NANOS).isEmpty());
    }

    @Test
    void only_errors_of_a_moment_are_sent_again() {
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
    void attempts_may_be_counted() {
        assertTrue(attempts(CallRetryPolicy.NONE, 100).pauseAfter(unavailable(), SECOND).isEmpty());
    }

    @Test
    void an_outage_is_bounded_from_its_first_failure_and_an_answer_ends_it() {
        Attempts attempts = attempts(CallRetryPolicy.DEFAULT, 1);
        attempts.answered();
        now += 3_600 * SECOND;

        assertTrue(attempts.pauseAfter(unavailable(), 10 * SECOND).isPresent());
        now += 9 * SECOND;
        attempts.answered();
        assertTrue(attempts.pauseAfter(unavailable(), 10 * SECOND).isPresent());
        now += 10 * SECOND;
        assertTrue(attempts.pauseAfter(unavailable(), 10 * SECOND).isEmpty());
    }

    @Test
    void durations_beyond_a_long_are_forever() {
        assertEquals(Attempts.FOREVER_NANOS, Attempts.nanos(Duration.ofSeconds(Long.MAX_VALUE)));
        assertThrows(PerdureException.class, () -> new CallRetryPolicy(Duration.ZERO, Duration.ZERO, 0.5, 0));
    }
}
