package dev.perdure;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import dev.perdure.v1.HistoryEntry;
import dev.perdure.v1.InstanceServiceGrpc;
import dev.perdure.v1.ResumeRequest;
import dev.perdure.v1.ResumeResponse;
import dev.perdure.v1.RunnerServiceGrpc;
import dev.perdure.v1.WatchEnd;
import dev.perdure.v1.WatchEndReason;
import dev.perdure.v1.WatchInstanceRequest;
import dev.perdure.v1.WatchInstanceResponse;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;

/** gRPC server on a real port that returns the responses queued by a test and records its requests. */
final class FakeServer implements AutoCloseable {
    /** Queued in {@link #errors}: the call gets no response. */
    static final StatusRuntimeException NO_RESPONSE = Status.UNKNOWN.asRuntimeException();

    /** Errors of the next Resume calls. Once the queue is empty, Resume succeeds. */
    final BlockingQueue<StatusRuntimeException> errors = new LinkedBlockingQueue<>();

    /** Behavior of the next WatchInstance calls. */
    final BlockingQueue<Consumer<StreamObserver<WatchInstanceResponse>>> streams = new LinkedBlockingQueue<>();

    final List<ResumeRequest> resumed = new CopyOnWriteArrayList<>();
    final BlockingQueue<WatchInstanceRequest> watched = new LinkedBlockingQueue<>();
    final HealthStatusManager health = new HealthStatusManager();
    private final Server server;

    FakeServer() throws IOException {
        server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
                .addService(new Runner())
                .addService(new Instances())
                .addService(health.getHealthService())
                .build()
                .start();
    }

    int port() {
        return server.getPort();
    }

    PerdureClient client() {
        return PerdureClient.connect("127.0.0.1:" + port());
    }

    @Override
    public void close() {
        server.shutdownNow();
    }

    /** Returns an error as a perdure server sends it. */
    static StatusRuntimeException error(Status.Code code, String message, Message... details) {
        com.google.rpc.Status.Builder status =
                com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage(message);
        for (Message detail : details) {
            status.addDetails(Any.pack(detail));
        }
        return error(code, message, status.build().toByteArray());
    }

    static StatusRuntimeException error(Status.Code code, String message, byte[] details) {
        Metadata trailers = new Metadata();
        trailers.put(Errors.DETAILS, details);
        return code.toStatus().withDescription(message).asRuntimeException(trailers);
    }

    static WatchInstanceResponse entry(long revision) {
        return WatchInstanceResponse.newBuilder()
                .setEntry(HistoryEntry.newBuilder().setRevision(revision))
                .build();
    }

    static WatchInstanceResponse end(long revision, WatchEndReason reason) {
        return WatchInstanceResponse.newBuilder()
                .setEnd(WatchEnd.newBuilder().setRevision(revision).setReason(reason))
                .build();
    }

    private final class Runner extends RunnerServiceGrpc.RunnerServiceImplBase {
        @Override
        public void resume(ResumeRequest request, StreamObserver<ResumeResponse> response) {
            resumed.add(request);
            StatusRuntimeException error = errors.poll();
            if (error == NO_RESPONSE) {
                return;
            } else if (error != null) {
                response.onError(error);
            } else {
                response.onNext(ResumeResponse.newBuilder().setRevision(7).build());
                response.onCompleted();
            }
        }
    }

    private final class Instances extends InstanceServiceGrpc.InstanceServiceImplBase {
        @Override
        public void watchInstance(WatchInstanceRequest request, StreamObserver<WatchInstanceResponse> response) {
            watched.add(request);
            Consumer<StreamObserver<WatchInstanceResponse>> stream = streams.poll();
            if (stream != null) {
                stream.accept(response);
            }
        }
    }
}
