package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.ErrorInfo;
import dev.perdure.v1.Instance;
import dev.perdure.v1.WatchEndReason;
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
                .setSnapshot(Instance.newBuilder().setRevision(revision))
                .build();
    }

    private void laidReady(Status end, WatchInstanceResponse... messages) {
        server.streams.add(answer -> {
            for (WatchInstanceResponse message : messages) {
                answer.onNext(message);
            }
            if (end == null) {
                return; // it stays open
            } else if (end.isOk()) {
                answer.onCompleted();
            } else {
                answer.onError(end.asRuntimeException());
            }
        });
    }

    private static WatchInstanceResponse finished(long revision) {
        return FakeServer.end(revision, WatchEndReason.WATCH_END_REASON_INSTANCE_ENDED);
    }

    @Test
    void a_broken_stream_goes_on_after_the_last_revision_given_out() throws InterruptedException {
        laidReady(Status.UNAVAILABLE, snapshot(3), FakeServer.entry(4));
        laidReady(Status.OK);
        laidReady(
                Status.OK,
                FakeServer.entry(5),
                FakeServer.end(5, WatchEndReason.WATCH_END_REASON_SERVER_DRAINING));
        laidReady(
                Status.OK,
                WatchInstanceResponse.newBuilder().setHeartbeat(WatchHeartbeat.newBuilder()).build(),
                WatchInstanceResponse.getDefaultInstance(), // something new
                FakeServer.entry(6),
                finished(6));

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
    void revision_zero_asks_for_the_whole_history() throws InterruptedException {
        laidReady(Status.OK, FakeServer.entry(1), finished(1));

        try (Watch watch = client.watchInstance("i", WatchOptions.DEFAULT.withAfterRevision(0))) {
            assertEquals(1, watch.next().revision());
        }

        assertTrue(server.watched.take().hasAfterRevision());
    }

    @Test
    void a_gap_is_told_and_not_passed_over() {
        laidReady(null, snapshot(3), FakeServer.entry(5));

        try (Watch watch = client.watchInstance("i")) {
            watch.next();
            PerdureException error = assertThrows(PerdureException.class, watch::hasNext);
            assertEquals(Status.Code.DATA_LOSS, error.status());
            assertFalse(watch.hasNext());
        }
    }

    @Test
    void a_refusal_ends_the_watch() {
        server.streams.add(answer -> answer.onError(FakeServer.refusal(
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
    void polling_gives_up_and_may_be_taken_up_again() {
        laidReady(null, snapshot(3));

        try (Watch watch = client.watchInstance("i")) {
            assertEquals(3, watch.poll(Duration.ofSeconds(20)).orElseThrow().revision());
            assertEquals(Optional.empty(), watch.poll(Duration.ofMillis(20)));
            assertFalse(watch.isOver());
        }
    }

    @Test
    void a_timeout_ends_the_watch() {
        laidReady(null, snapshot(3));

        try (Watch watch = client.watchInstance("i", WatchOptions.DEFAULT.withTimeout(Duration.ofMillis(500)))) {
            PerdureException error =
                    assertThrows(PerdureException.class, () -> watch.forEachRemaining(event -> {}));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, error.status());
        }
    }

    @Test
    void another_thread_may_close_it_while_one_waits() throws InterruptedException {
        laidReady(null, snapshot(3));
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
    void far_more_events_than_wait_here_all_come() {
        WatchInstanceResponse[] messages = new WatchInstanceResponse[1_001];
        for (int i = 0; i < 1_000; i++) {
            messages[i] = FakeServer.entry(i + 1);
        }
        messages[1_000] = finished(1_000);
        laidReady(Status.OK, messages);

        long count = 0;
        try (Watch watch = client.watchInstance("i", WatchOptions.DEFAULT.withAfterRevision(0))) {
            for (WatchEvent event : watch) {
                count++;
                assertEquals(Math.min(count, 1_000), event.revision());
            }
        }
        assertEquals(1_001, count);
    }
}
