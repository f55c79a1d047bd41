package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import dev.perdure.v1.ResumeRequest;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class CallsTest {
    private FakeServer server;
    private PerdureClient client;

    @BeforeEach
    void start() throws IOException {
        server = new FakeServer();
        client = server.client();
    }

    @AfterEach
    void stop() {
        client.close();
        server.close();
    }

    private static ErrorInfo reason(String reason) {
        return ErrorInfo.newBuilder().setDomain("perdure").setReason(reason).putMetadata("steps", "a, b").build();
    }

    private PerdureException rejected() {
        return assertThrows(PerdureException.class, () -> client.resume("i", "e"));
    }

    @Test
    void a_write_is_retried_with_the_same_request_id() {
        server.errors.add(FakeServer.error(Status.Code.UNAVAILABLE, "", reason("COMMIT_UNKNOWN")));
        server.errors.add(FakeServer.error(Status.Code.RESOURCE_EXHAUSTED, "", reason("OVERLOADED")));

        assertEquals(7, client.resume("i", "e").revision());

        List<String> ids = server.resumed.stream().map(sent -> sent.getOpts().getRequestId()).toList();
        assertEquals(3, ids.size());
        assertEquals(36, ids.get(0).length());
        assertEquals(1, ids.stream().distinct().count());
        client.resume("i", "e");
        assertFalse(ids.contains(server.resumed.get(3).getOpts().getRequestId()));
    }

    @Test
    void a_given_request_id_is_kept() {
        client.resume("i", "e", List.of(1), opts -> opts.requestId("mine"));

        ResumeRequest sent = server.resumed.get(0);
        assertEquals("mine", sent.getOpts().getRequestId());
        assertEquals("[1]", sent.getOpts().getPayload().getJson());
    }

    @Test
    void only_an_overload_is_retried_of_exhausted_limits() {
        server.errors.add(FakeServer.error(Status.Code.RESOURCE_EXHAUSTED, "full", reason("INBOX_FULL")));

        assertEquals(ErrorReason.INBOX_FULL, rejected().reason());
        assertEquals(1, server.resumed.size());
    }

    @Test
    void a_requested_pause_beyond_the_timeout_ends_the_call() {
        RetryInfo late = RetryInfo.newBuilder()
                .setRetryDelay(com.google.protobuf.Duration.newBuilder().setSeconds(60).setNanos(5))
                .build();
        server.errors.add(FakeServer.error(Status.Code.UNAVAILABLE, "", reason("DATABASE_UNAVAILABLE"), late));

        PerdureException error = rejected();

        assertEquals(Optional.of(Duration.ofSeconds(60, 5)), error.retryDelay());
        assertTrue(error.isRetryable());
        assertEquals(server.resumed.get(0).getOpts().getRequestId(), error.requestId());
    }

    @Test
    void an_error_has_every_detail_of_the_server() throws Exception {
        server.errors.add(FakeServer.error(
                Status.Code.FAILED_PRECONDITION,
                "several",
                reason("AMBIGUOUS_EVENT").toBuilder()
                        .putMetadata("detail", "steps 'a' and 'b' wait for it")
                        .putMetadata("hint", "name one with step_ref")
                        .build(),
                ResourceInfo.newBuilder().setResourceType("instance").setResourceName("i").build(),
                BadRequest.newBuilder()
                        .addFieldViolations(BadRequest.FieldViolation.newBuilder().setField("f").setDescription("d"))
                        .build()));

        PerdureException error = copied(rejected());

        assertEquals(Status.Code.FAILED_PRECONDITION, error.code());
        assertEquals("several", error.getMessage());
        assertEquals(ErrorReason.AMBIGUOUS_EVENT, error.reason());
        assertEquals("steps 'a' and 'b' wait for it", error.detail());
        assertEquals("name one with step_ref", error.hint());
        assertEquals(Map.of("steps", "a, b"), error.metadata());
        assertTrue(error.toString().endsWith(
                "several\ndetail: steps 'a' and 'b' wait for it\nhint: name one with step_ref"));
        assertEquals(List.of("a", "b"), error.stepRefs());
        assertEquals("i", error.instanceId());
        assertEquals(Optional.of(new PerdureException.Resource("instance", "i")), error.resource());
        assertEquals(List.of(new PerdureException.FieldViolation("f", "d")), error.violations());
    }

    private static PerdureException copied(PerdureException error) throws IOException, ClassNotFoundException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(error);
        }
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray()))) {
            return (PerdureException) in.readObject();
        }
    }

    @Test
    void an_unknown_reason_keeps_its_name() {
        server.errors.add(FakeServer.error(Status.Code.ABORTED, "", reason("MOON_TOO_FULL")));

        PerdureException error = rejected();

        assertEquals(ErrorReason.UNKNOWN, error.reason());
        assertEquals("MOON_TOO_FULL", error.reasonName());
        assertEquals("ABORTED", error.getMessage());
        assertEquals("", error.detail());
        assertEquals("", error.hint());
    }

    @Test
    void foreign_and_malformed_details_are_ignored() {
        ErrorInfo foreign = ErrorInfo.newBuilder().setDomain("proxy").setReason("NO").build();
        server.errors.add(FakeServer.error(Status.Code.PERMISSION_DENIED, "no", foreign));
        server.errors.add(FakeServer.error(Status.Code.NOT_FOUND, "gone", new byte[] {10, 99, 1}));

        assertEquals(ErrorReason.UNSPECIFIED, rejected().reason());
        PerdureException malformed = rejected();
        assertEquals(Status.Code.NOT_FOUND, malformed.code());
        assertEquals("", malformed.reasonName());
        assertEquals("gone", malformed.getMessage());
    }

    @Test
    void an_unreachable_server_is_unavailable() {
        CallRetryPolicy thrice = new CallRetryPolicy(Duration.ofMillis(1), Duration.ofMillis(1), 1, 3);
        int port = server.port();
        server.close();

        try (PerdureClient unconnected = PerdureClient.builder("127.0.0.1:" + port).retries(thrice).build()) {
            PerdureException error = assertThrows(PerdureException.class, () -> unconnected.resume("i", "e"));

            assertEquals(Status.Code.UNAVAILABLE, error.code());
            assertEquals(36, error.requestId().length());
        }
    }

    @Test
    void a_deadline_error_keeps_the_error_before_it() {
        server.errors.add(FakeServer.error(Status.Code.UNAVAILABLE, "", reason("SHUTTING_DOWN")));
        server.errors.add(FakeServer.NO_RESPONSE);

        PerdureException error = assertThrows(
                PerdureException.class, () -> client.withTimeout(Duration.ofSeconds(1)).resume("i", "e"));

        assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
        assertEquals("SHUTTING_DOWN", ((PerdureException) error.getSuppressed()[0]).reasonName());
    }

    @Test
    void an_interrupted_thread_does_not_retry() {
        server.errors.add(FakeServer.error(Status.Code.UNAVAILABLE, "", reason("SHUTTING_DOWN")));
        Thread.currentThread().interrupt();

        rejected();

        assertTrue(Thread.interrupted());
    }

    @Test
    void a_closed_client_rejects_calls() {
        client.close();
        client.close();

        assertThrows(IllegalStateException.class, () -> client.getInstance("i"));
        assertThrows(IllegalStateException.class, () -> client.watchInstance("i").hasNext());
    }

    @Test
    void raw_json_is_sent_byte_for_byte() {
        client.resume("i", "e", new RawJson(" {\"a\" : 1.50} "));
        client.resume("i", "e");

        assertEquals(" {\"a\" : 1.50} ", server.resumed.get(0).getOpts().getPayload().getJson());
        assertFalse(server.resumed.get(1).getOpts().hasPayload());
    }

    @Test
    void health_is_checked_once_and_by_service() {
        assertEquals(Health.SERVING, client.checkHealth());
        server.health.setStatus("perdure.v1.RunnerService", ServingStatus.NOT_SERVING);
        assertEquals(Health.NOT_SERVING, client.checkHealth("perdure.v1.RunnerService"));
        server.health.setStatus("", ServingStatus.UNKNOWN);
        assertEquals(Health.UNKNOWN, client.checkHealth());
        PerdureException unknown = assertThrows(PerdureException.class, () -> client.checkHealth("no.Such"));
        assertEquals(Status.Code.NOT_FOUND, unknown.code());
        server.close();
        PerdureException away = assertThrows(PerdureException.class, client::checkHealth);
        assertEquals(Status.Code.UNAVAILABLE, away.code());
    }
}
