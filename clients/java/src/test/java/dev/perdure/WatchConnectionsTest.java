package dev.perdure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.perdure.v1.GetInstanceRequest;
import dev.perdure.v1.GetInstanceResponse;
import dev.perdure.v1.InstanceServiceGrpc;
import dev.perdure.v1.WatchInstanceRequest;
import dev.perdure.v1.WatchInstanceResponse;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Connections of watches, against a server that accepts few streams per connection. */
@Timeout(120)
@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class WatchConnectionsTest {
    private static final int WATCHES = 1_000;
    private static final int STREAMS_MAX = 128;

    private final List<StreamObserver<WatchInstanceResponse>> open = new CopyOnWriteArrayList<>();
    private Server server;
    private PerdureClient client;

    @BeforeEach
    void start() throws IOException {
        server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0))
                .maxConcurrentCallsPerConnection(STREAMS_MAX)
                .addService(new Instances())
                .build()
                .start();
        client = PerdureClient.connect("127.0.0.1:" + server.getPort());
    }

    @AfterEach
    void stop() {
        client.close();
        server.shutdownNow();
    }

    /** Watches return a snapshot and stay open until the test ends them. */
    private final class Instances extends InstanceServiceGrpc.InstanceServiceImplBase {
        @Override
        public void watchInstance(WatchInstanceRequest request, StreamObserver<WatchInstanceResponse> response) {
            open.add(response);
            response.onNext(WatchInstanceResponse.newBuilder()
                    .setSnapshot(dev.perdure.v1.Instance.newBuilder().setRevision(1))
                    .build());
        }

        @Override
        public void getInstance(GetInstanceRequest request, StreamObserver<GetInstanceResponse> response) {
            response.onNext(GetInstanceResponse.getDefaultInstance());
            response.onCompleted();
        }
    }

    @Test
    void calls_work_with_1000_open_watches() {
        List<Watch> watches = new ArrayList<>();
        for (int i = 0; i < WATCHES; i++) {
            Watch watch = client.watchInstance("i1");
            assertInstanceOf(WatchEvent.Snapshot.class, watch.next());
            watches.add(watch);
        }
        List<Integer> counts = client.watches();

        for (int call = 0; call < 20; call++) {
            client.getInstance("i1");
        }
        for (StreamObserver<WatchInstanceResponse> response : open) {
            response.onNext(FakeServer.end(1, dev.perdure.v1.WatchEndReason.WATCH_END_REASON_INSTANCE_ENDED));
            response.onCompleted();
        }
        for (Watch watch : watches) {
            assertInstanceOf(WatchEvent.End.class, watch.next());
        }

        assertEquals(Collections.nCopies(10, 100), counts);
        assertEquals(List.of(0), client.watches());
    }

    @Test
    void a_closed_watch_frees_its_place() {
        Watch first = client.watchInstance("i1");
        first.next();
        first.close();

        assertEquals(List.of(0), client.watches());
    }

    @Test
    void a_reconnected_watch_uses_one_place() {
        try (Watch watch = client.watchInstance("i1")) {
            watch.next();
            open.remove(0).onError(Status.UNAVAILABLE.asRuntimeException());

            assertInstanceOf(WatchEvent.Snapshot.class, watch.next());
            assertEquals(List.of(1), client.watches());
        }
    }

    @Test
    void a_closed_client_ends_its_watches_and_opens_none() {
        Watch watch = client.watchInstance("i1");
        watch.next();

        client.close();

        assertThrows(IllegalStateException.class, watch::hasNext);
        assertThrows(IllegalStateException.class, () -> client.watchInstance("i1").hasNext());
        assertEquals(List.of(), client.watches());
    }
}
