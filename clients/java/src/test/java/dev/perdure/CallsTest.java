package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import dev.perdure.v1.ErrorReason;
import dev.perdure.v1.ResumeRequest;
import io.grpc.Status;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.time.Duration;
import java.util.List;
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

    private PerdureException refused() {
        return assertThrows(PerdureException.class, () -> client.resume("i", "e"));
    }

    @Test
    void a_mutating_call_is_sent_again_with_the_same_request_id() {
        server.refusals.add(FakeServer.refusal(Status.Code.UNAVAILABLE, "", reason("COMMIT_UNKNOWN")));
        server.refusals.add(FakeServer.refusal(Status.Code.RESOURCE_EXHAUSTED, "", reason("OVERLOADED")));

        assertEquals(7, client.resume("i", "e").getRevision());

        List<String> ids = server.resumed.stream().map(sent -> sent.getOpts().getRequestId()).toList();
        assertEquals(3, ids.size());
        assertEquals(36, ids.get(0).length());
        assertEquals(1, ids.stream().distinct().count());
        client.resume("i", "e");
        assertFalse(ids.contains(server.resumed.get(3).getOpts().getRequestId()));
    }

    @Test
    void a_request_id_that_was_given_is_kept() {
        client.resume("i", "e", opts -> opts.setRequestId("mine").setPayload(Payloads.of(List.of(1))));

        ResumeRequest sent = server.resumed.get(0);
        assertEquals("mine", sent.getOpts().getRequestId());
        assertEquals("[1]", sent.getOpts().getPayload().getJson());
    }

    @Test
    void an_exhausted_limit_that_is_no_overload_is_not_tried_again() {
        server.refusals.add(FakeServer.refusal(Status.Code.RESOURCE_EXHAUSTED, "full", reason("INBOX_FULL")));

        assertEquals(ErrorReason.ERROR_REASON_INBOX_FULL, refused().reason());
        assertEquals(1, server.resumed.size());
    }

    @Test
    void a_pause_that_the_server_asks_for_beyond_the_deadline_ends_the_call() {
        RetryInfo late = RetryInfo.newBuilder()
                .setRetryDelay(com.google.protobuf.Duration.newBuilder().setSeconds(60).setNanos(5))
                .build();
        server.refusals.add(FakeServer.refusal(Status.Code.UNAVAILABLE, "away", reason("DATABASE_UNAVAILABLE"), late));

        PerdureException error = refused();

        assertEquals(Optional.of(Duration.ofSeconds(60, 5)), error.retryDelay());
        assertTrue(error.isTransient());
        assertEquals(server.resumed.get(0).getOpts().getRequestId(), error.requestId());
    }

    @Test
    void an_error_tells_all_that_the_server_told() throws Exception {
        server.refusals.add(FakeServer.refusal(
                Status.Code.FAILED_PRECONDITION,
                "several",
                reason("AMBIGUOUS_EVENT"),
                ResourceInfo.newBuilder().setResourceType("instance").setResourceName("i").build(),
                BadRequest.newBuilder()
                        .addFieldViolations(BadRequest.FieldViolation.newBuilder().setField("f").setDescription("d"))
                        .build()));

        PerdureException error = copied(refused());

        assertEquals(Status.Code.FAILED_PRECONDITION, error.status());
        assertEquals("several", error.getMessage());
        assertEquals(ErrorReason.ERROR_REASON_AMBIGUOUS_EVENT, error.reason());
        assertEquals(List.of("a", "b"), error.stepRefs());
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
    void a_reason_of_a_newer_server_keeps_its_name() {
        server.refusals.add(FakeServer.refusal(Status.Code.ABORTED, "", reason("MOON_TOO_FULL")));

        PerdureException error = refused();

        assertEquals(ErrorReason.UNRECOGNIZED, error.reason());
        assertEquals("MOON_TOO_FULL", error.reasonName());
        assertEquals("ABORTED", error.getMessage());
    }

    @Test
    void details_of_another_domain_or_broken_ones_are_passed_over() {
        ErrorInfo foreign = ErrorInfo.newBuilder().setDomain("proxy").setReason("NO").build();
        server.refusals.add(FakeServer.refusal(Status.Code.PERMISSION_DENIED, "no", foreign));
        server.refusals.add(FakeServer.refusal(Status.Code.NOT_FOUND, "gone", new byte[] {10, 99, 1}));

        assertEquals(ErrorReason.ERROR_REASON_UNSPECIFIED, refused().reason());
        PerdureException cut = refused();
        assertEquals(Status.Code.NOT_FOUND, cut.status());
        assertEquals("", cut.reasonName());
        assertEquals("gone", cut.getMessage());
    }

    @Test
    void nobody_there_is_unavailable() {
        CallRetryPolicy thrice = new CallRetryPolicy(Duration.ofMillis(1), Duration.ofMillis(1), 1, 3);
        int port = server.port();
        server.close();

        try (PerdureClient lonely = PerdureClient.builder("127.0.0.1:" + port).retries(thrice).build()) {
            PerdureException error = assertThrows(PerdureException.class, () -> lonely.resume("i", "e"));

            assertEquals(Status.Code.UNAVAILABLE, error.status());
            assertEquals(36, error.requestId().length());
        }
    }

    @Test
    void a_deadline_tells_what_used_the_time_up() {
        server.refusals.add(FakeServer.refusal(Status.Code.UNAVAILABLE, "", reason("SHUTTING_DOWN")));
        server.refusals.add(FakeServer.SILENCE);

        PerdureException error = assertThrows(
                PerdureException.class, () -> client.withTimeout(Duration.ofSeconds(1)).resume("i", "e"));

        assertEquals(Status.Code.DEADLINE_EXCEEDED, error.status());
        assertEquals("SHUTTING_DOWN", ((PerdureException) error.getSuppressed()[0]).reasonName());
    }

    @Test
    void an_interrupted_thread_stops_trying() {
        server.refusals.add(FakeServer.refusal(Status.Code.UNAVAILABLE, "", reason("SHUTTING_DOWN")));
        Thread.currentThread().interrupt();

        refused();

        assertTrue(Thread.interrupted());
    }

    @Test
    void a_closed_client_says_so() {
        client.close();
        client.close();

        assertThrows(IllegalStateException.class, () -> client.getInstance("i"));
        assertThrows(IllegalStateException.class, () -> client.watchInstance("i").hasNext());
    }
}
