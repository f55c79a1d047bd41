package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;

/** Arguments that the client rejects before it sends anything, and durations that mean no limit. */
@Timeout(60)
@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class ArgumentsTest {
    private static final List<Duration> UNLIMITED =
            List.of(Duration.ofSeconds(Long.MAX_VALUE), Duration.ofDays(10_000), Duration.ofNanos(Long.MAX_VALUE));
    private static final List<Duration> INVALID =
            Arrays.asList(null, Duration.ZERO, Duration.ofNanos(-1), Duration.ofSeconds(Long.MIN_VALUE));

    private static void assertRejected(String field, Executable call) {
        PerdureException error = assertThrows(PerdureException.class, call);
        assertEquals(ErrorReason.INVALID_FIELD, error.reason());
        assertEquals(List.of(field), error.violations().stream().map(v -> v.field()).toList());
    }

    @Test
    void a_timeout_of_more_than_ten_years_is_no_deadline() throws IOException {
        for (Duration timeout : UNLIMITED) {
            try (FakeServer server = new FakeServer();
                    PerdureClient client = PerdureClient.builder("127.0.0.1:" + server.port())
                            .timeout(timeout)
                            .build()) {
                server.errors.add(FakeServer.error(Status.Code.DEADLINE_EXCEEDED, "limit of the server"));

                assertEquals(7, client.resume("i1", "approved").revision());
                assertEquals(2, server.resumed.size());
            }
        }
    }

    @Test
    void invalid_limits_are_rejected_by_name() {
        try (PerdureClient client = PerdureClient.connect("127.0.0.1:1")) {
            for (Duration limit : INVALID) {
                assertRejected("timeout", () -> PerdureClient.builder("127.0.0.1:1").timeout(limit));
                assertRejected("timeout", () -> client.withTimeout(limit));
                assertRejected("timeout", () -> client.waitForEnd("i1", limit));
                assertRejected("reconnectTimeout", () -> WatchOptions.DEFAULT.withReconnectTimeout(limit));
                assertRejected("timeout", () -> WatchOptions.DEFAULT.withTimeout(limit));
            }
        }
    }

    @Test
    void invalid_retry_policies_are_rejected_by_name() {
        Duration second = Duration.ofSeconds(1);
        assertRejected("retries.initialBackoff", () -> new CallRetryPolicy(Duration.ZERO, second, 2, 0));
        assertRejected("retries.initialBackoff", () -> new CallRetryPolicy(null, second, 2, 0));
        assertRejected("retries.maxBackoff", () -> new CallRetryPolicy(second, Duration.ofMillis(-1), 2, 0));
        assertRejected("retries.maxAttempts", () -> new CallRetryPolicy(second, second, 2, -1));
        for (double multiplier : new double[] {0, 0.5, Double.NaN, Double.POSITIVE_INFINITY, 1e300}) {
            assertRejected("retries.multiplier", () -> new CallRetryPolicy(second, second, multiplier, 0));
        }
    }

    @Test
    void no_pause_is_longer_than_a_day() {
        CallRetryPolicy retries = new CallRetryPolicy(Duration.ofDays(1), Duration.ofSeconds(Long.MAX_VALUE), 1_000, 0);
        Attempts attempts = new Attempts(retries, Attempts.FOREVER_NANOS, () -> 0, () -> 0);
        for (int failure = 0; failure < 100; failure++) {
            PerdureException error = PerdureException.local(Status.Code.UNAVAILABLE, "unavailable", "", null);
            long pause = attempts.pauseAfter(error, Attempts.FOREVER_NANOS).orElseThrow();
            assertTrue(pause > 0 && pause <= Attempts.PAUSE_NANOS_MAX);
        }
    }

    @Test
    void delays_are_rounded_up_and_must_fit() {
        assertEquals(2, Arguments.milliseconds("delay_ms", Duration.ofNanos(1_000_001)));
        assertEquals(1, Arguments.milliseconds("delay_ms", Duration.ofMillis(1)));
        assertEquals(1, Arguments.milliseconds("delay_ms", Duration.ofNanos(1)));
        assertRejected("delay_ms", () -> Arguments.milliseconds("delay_ms", Duration.ofSeconds(Long.MAX_VALUE)));
        assertRejected("delay_ms", () -> Arguments.milliseconds("delay_ms", null));
    }

    @Test
    void missing_arguments_are_rejected_by_name() {
        try (PerdureClient client = PerdureClient.connect("127.0.0.1:1")) {
            assertRejected("workflow", () -> client.startInstance(null));
            assertRejected("context", () -> client.startInstance("order", null));
            assertRejected("instance_id", () -> client.resume(null, "approved"));
            assertRejected("event", () -> client.resume("i1", null));
            assertRejected("step_ref", () -> client.scheduleResume("i1", null, Duration.ofSeconds(1)));
            assertRejected("instance_id", () -> client.getInstance(null));
            assertRejected("instance_id", () -> client.watchInstance(null));
            assertRejected("reference", () -> client.getTimer(null));
            assertRejected("opts.payload", () -> client.resume("i1", "approved", (Object) null));
            assertRejected("opts.labels", () -> client.startInstance("order", Map.of(), opts -> opts.label("a", null)));
            assertRejected("opts.reason", () -> client.cancelInstance("i1", (String) null));
        }
    }

    @Test
    void values_outside_of_a_field_are_rejected_by_name() {
        try (PerdureClient client = PerdureClient.connect("127.0.0.1:1")) {
            assertRejected("version", () -> client.getWorkflow("order", -1));
            assertRejected("version", () -> client.getWorkflow("order", 1L << 32));
            assertRejected("opts.version", () -> client.startInstance("order", Map.of(), opts -> opts.version(-1)));
            assertRejected("states", () -> client.listInstances(filter -> filter.states(InstanceState.UNKNOWN)));
            assertRejected("context", () -> client.startInstance("order", Map.of("a", Double.NaN)));
            assertRejected("opts.payload", () -> client.resume("i1", "approved", new Object()));
        }
    }

    @Test
    void versions_use_all_32_bits() {
        assertEquals(0, Arguments.uint32("version", 0));
        assertEquals(-1, Arguments.uint32("version", (1L << 32) - 1));
    }
}
