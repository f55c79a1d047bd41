package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.ErrorInfo;
import dev.perdure.v1.WatchHeartbeat;
import dev.perdure.v1.WatchInstanceRequest;
import dev.perdure.v1.WatchInstanceResponse;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
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
class WatchTest {
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

    private static WatchInstanceResponse snapshot(long revision) {
        return WatchInstanceResponse.newBuilder()
                .setSnapshot(dev.perdure.v1.Instance.newBuilder().setRevision(revision))
                .build();
    }

    private void queue(Status end, WatchInstanceResponse... messages) {
        server.streams.add(response -> {
            for (WatchInstanceResponse message : messages) {
                response.onNext(message);
            }
            if (end == null) {
                return; // the stream stays open
            } else if (end.isOk()) {
                response.onCompleted();
            } else {
                response.onError(end.asRuntimeException());
            }
        });
    }

    private static WatchInstanceResponse ended(long revision) {
        return FakeServer.end(revision, dev.perdure.v1.WatchEndReason.WATCH_END_REASON_INSTANCE_ENDED);
    }

    @Test
    void a_broken_stream_continues_after_the_last_revision() throws InterruptedException {
        queue(Status.UNAVAILABLE, snapshot(3), FakeServer.entry(4));
        queue(Status.OK);
        queue(
                Status.OK,
                FakeServer.entry(5),
                FakeServer.end(5, dev.perdure.v1.WatchEndReason.WATCH_END_REASON_SERVER_DRAINING));
        queue(
                Status.OK,
                WatchInstanceResponse.newBuilder().setHeartbeat(WatchHeartbeat.newBuilder()).build(),
                WatchInstanceResponse.getDefaultInstance(), // an event of a newer server
                FakeServer.entry(6),
                ended(6));

        List<WatchEvent> events = new ArrayList<>();
        try (Watch watch = client.watchInstance("i")) {
            watch.forEachRemaining(events::add);
            assertTrue(watch.isOver());
        }

        assertEquals(List.of(3L, 4L, 5L, 6L, 6L), events.stream().map(WatchEvent::revision).toList());
        assertInstanceOf(WatchEvent.Snapshot.class, events.get(0));
        assertInstanceOf(WatchEvent.End.class, events.get(4));
        assertFalse(server.watched.take().hasAfterRevision());
        for (long after : new long[] {4, 4, 5}) {
            WatchInstanceRequest request = server.watched.take();
            assertTrue(request.hasAfterRevision());
            assertEquals(after, request.getAfterRevision());
        }
    }

    @Test
    void revision_zero_requests_the_whole_history() throws InterruptedException {
        queue(Status.OK, FakeServer.entry(1), ended(1));

        try (Watch watch = client.watchInstance("i", WatchOptions.DEFAULT.withAfterRevision(0))) {
            assertEquals(1, watch.next().revision());
        }

        assertTrue(server.watched.take().hasAfterRevision());
    }

    @Test
    void a_gap_in_the_revisions_is_an_error() {
        queue(null, snapshot(3), FakeServer.entry(5));

        try (Watch watch = client.watchInstance("i")) {
            watch.next();
            PerdureException error = assertThrows(PerdureException.class, watch::hasNext);
            assertEquals(Status.Code.DATA_LOSS, error.code());
            assertFalse(watch.hasNext());
        }
    }

    @Test
    void a_final_error_ends_the_watch() {
        server.streams.add(response -> response.onError(FakeServer.error(
                Status.Code.NOT_FOUND,
                "",
                ErrorInfo.newBuilder().setDomain("perdure").setReason("INSTANCE_NOT_FOUND").build())));

        try (Watch watch = client.watchInstance("i")) {
            assertEquals(
                    "INSTANCE_NOT_FOUND",
                    assertThrows(PerdureException.class, watch::hasNext).reasonName());
            assertTrue(watch.isOver());
        }
    }

    @Test
    void a_poll_that_times_out_does_not_end_the_watch() {
        queue(null, snapshot(3));

        try (Watch watch = client.watchInstance("i")) {
            assertEquals(3, watch.poll(Duration.ofSeconds(20)).orElseThrow().revision());
            assertEquals(Optional.empty(), watch.poll(Duration.ofMillis(20)));
            assertFalse(watch.isOver());
        }
    }

    @Test
    void a_timeout_ends_the_watch() {
        queue(null, snapshot(3));

        try (Watch watch = client.watchInstance("i", WatchOptions.DEFAULT.withTimeout(Duration.ofMillis(500)))) {
            PerdureException error =
                    assertThrows(PerdureException.class, () -> watch.forEachRemaining(event -> {}));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
        }
    }

    @Test
    void another_thread_can_close_a_waiting_watch() throws InterruptedException {
        queue(null, snapshot(3));
        Watch watch = client.watchInstance("i");
        watch.next();
        boolean[] more = {true};
        Thread reader = new Thread(() -> more[0] = watch.hasNext());
        reader.start();

        watch.close();
        reader.join();

        assertFalse(more[0]);
    }

    @Test
    void more_events_than_the_queue_holds_all_arrive() {
        WatchInstanceResponse[] messages = new WatchInstanceResponse[1_001];
        for (int i = 0; i < 1_000; i++) {
            messages[i] = FakeServer.entry(i + 1);
        }
        messages[1_000] = ended(1_000);
        queue(Status.OK, messages);

        long count = 0;
        try (Watch watch = client.watchInstance("i", WatchOptions.DEFAULT.withAfterRevision(0))) {
            for (WatchEvent event : watch) {
                count++;
                assertEquals(Math.min(count, 1_000), event.revision());
            }
        }
        assertEquals(1_001, count);
    }

    @Test
    void callbacks_report_a_disconnect_and_a_reconnect() {
        List<String> calls = new ArrayList<>();
        WatchOptions options = WatchOptions.DEFAULT
                .withOnDisconnect(error -> calls.add("disconnect " + error.code()))
                .withOnReconnect(() -> calls.add("reconnect"));
        queue(Status.UNAVAILABLE, snapshot(3)); // one failure is also what a renewed stream looks like
        queue(Status.UNAVAILABLE, FakeServer.entry(4));
        queue(Status.UNAVAILABLE);
        queue(Status.UNAVAILABLE);
        queue(Status.OK, FakeServer.entry(5), ended(5));

        try (Watch watch = client.watchInstance("i", options)) {
            watch.next();
            watch.next();
            assertEquals(List.of(), calls);
            watch.next();
            assertEquals(List.of("disconnect UNAVAILABLE", "reconnect"), calls);
        }
    }

    @Test
    void an_exception_of_a_callback_ends_the_watch() {
        WatchOptions options = WatchOptions.DEFAULT.withOnReconnect(() -> {
            throw new IllegalArgumentException("callback");
        });
        queue(Status.UNAVAILABLE, snapshot(3));
        queue(Status.UNAVAILABLE);
        queue(null, FakeServer.entry(4));

        try (Watch watch = client.watchInstance("i", options)) {
            watch.next();
            assertThrows(IllegalArgumentException.class, watch::hasNext);
            assertFalse(watch.hasNext());
        }
    }
}
