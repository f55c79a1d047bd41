package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.perdure.v1.ErrorReason;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;

/** Arguments that are refused before anything is sent, and limits that are no limits. */
@Timeout(60)
@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class ArgumentsTest {
    private static final List<Duration> ENDLESS =
            List.of(Duration.ofSeconds(Long.MAX_VALUE), Duration.ofDays(10_000), Duration.ofNanos(Long.MAX_VALUE));
    private static final List<Duration> INVALID =
            Arrays.asList(null, Duration.ZERO, Duration.ofNanos(-1), Duration.ofSeconds(Long.MIN_VALUE));

    private static void refuses(String field, Executable call) {
        PerdureException error = assertThrows(PerdureException.class, call);
        assertEquals(ErrorReason.ERROR_REASON_INVALID_FIELD, error.reason());
        assertEquals(List.of(field), error.violations().stream().map(v -> v.field()).toList());
    }

    @Test
    void an_endless_timeout_is_no_deadline() throws IOException {
        for (Duration timeout : ENDLESS) {
            try (FakeServer server = new FakeServer();
                    PerdureClient client = PerdureClient.builder("127.0.0.1:" + server.port())
                            .timeout(timeout)
                            .build()) {
                server.refusals.add(FakeServer.refusal(Status.Code.DEADLINE_EXCEEDED, "the server's own limit"));

                assertEquals(7, client.resume("i1", "approved").getRevision());
                assertEquals(2, server.resumed.size());
            }
        }
    }

    @Test
    void a_limit_that_is_no_time_is_refused_by_its_name() {
        try (PerdureClient client = PerdureClient.connect("127.0.0.1:1")) {
            for (Duration limit : INVALID) {
                refuses("timeout", () -> PerdureClient.builder("127.0.0.1:1").timeout(limit));
                refuses("timeout", () -> client.withTimeout(limit));
                refuses("patience", () -> client.waitForEnd("i1", limit));
                refuses("outage", () -> WatchOptions.DEFAULT.withOutage(limit));
                if (limit != null) {
                    refuses("timeout", () -> WatchOptions.DEFAULT.withTimeout(limit));
                }
            }
        }
    }

    @Test
    void retry_settings_that_cannot_work_are_refused_by_their_name() {
        Duration second = Duration.ofSeconds(1);
        refuses("retries.initialBackoff", () -> new CallRetryPolicy(Duration.ZERO, second, 2, 0));
        refuses("retries.maxBackoff", () -> new CallRetryPolicy(second, Duration.ofMillis(-1), 2, 0));
        refuses("retries.maxAttempts", () -> new CallRetryPolicy(second, second, 2, -1));
        for (double multiplier : new double[] {0, 0.5, Double.NaN, Double.POSITIVE_INFINITY, 1e300}) {
            refuses("retries.multiplier", () -> new CallRetryPolicy(second, second, multiplier, 0));
        }
    }

    @Test
    void no_pause_is_longer_than_a_day() {
        CallRetryPolicy retries = new CallRetryPolicy(Duration.ofDays(1), Duration.ofSeconds(Long.MAX_VALUE), 1_000, 0);
        Attempts attempts = new Attempts(retries, Attempts.FOREVER_NANOS, () -> 0, () -> 0);
        for (int failure = 0; failure < 100; failure++) {
            PerdureException error = PerdureException.local(Status.Code.UNAVAILABLE, "away", "", null);
            long pause = attempts.pauseAfter(error, Attempts.FOREVER_NANOS).orElseThrow();
            assertTrue(pause > 0 && pause <= Attempts.PAUSE_NANOS_MAX);
        }
    }

    @Test
    void a_delay_is_rounded_up_and_must_fit() {
        assertEquals(2, Requests.milliseconds("delay_ms", Duration.ofNanos(1_000_001)));
        assertEquals(1, Requests.milliseconds("delay_ms", Duration.ofMillis(1)));
        assertEquals(1, Requests.milliseconds("delay_ms", Duration.ofNanos(1)));
        refuses("delay_ms", () -> Requests.milliseconds("delay_ms", Duration.ofSeconds(Long.MAX_VALUE)));
        refuses("delay_ms", () -> Requests.milliseconds("delay_ms", null));
    }

    @Test
    void an_argument_that_is_missing_is_refused_by_its_name() {
        try (PerdureClient client = PerdureClient.connect("127.0.0.1:1")) {
            refuses("workflow", () -> client.startInstance(null));
            refuses("context", () -> client.startInstance("order", null));
            refuses("instance_id", () -> client.resume(null, "approved"));
            refuses("event", () -> client.resume("i1", null));
            refuses("step_ref", () -> client.scheduleResume("i1", null, Duration.ofSeconds(1)));
            refuses("instance_id", () -> client.getInstance(null));
            refuses("instance_id", () -> client.watchInstance(null));
            refuses("reference", () -> client.getTimer(null));
        }
    }
}
