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
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;

/** A gRPC server on a real port that answers, call by call, what a test has laid ready, and keeps what it was sent. */
final class FakeServer implements AutoCloseable {
    /** Laid ready in {@link #refusals}: a call that is never answered. */
    static final StatusRuntimeException SILENCE = Status.UNKNOWN.asRuntimeException();

    /** What becomes of the next Resumes; once there is nothing more, they are answered OK. */
    final BlockingQueue<StatusRuntimeException> refusals = new LinkedBlockingQueue<>();

    /** What the next WatchInstance does. */
    final BlockingQueue<Consumer<StreamObserver<WatchInstanceResponse>>> streams = new LinkedBlockingQueue<>();

    final List<ResumeRequest> resumed = new CopyOnWriteArrayList<>();
    final BlockingQueue<WatchInstanceRequest> watched = new LinkedBlockingQueue<>();
    private final Server server;

    FakeServer() throws IOException {
        server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
                .addService(new Runner())
                .addService(new Instances())
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

    /** An error as perdure's servers send it. */
    static StatusRuntimeException refusal(Status.Code code, String message, Message... details) {
        com.google.rpc.Status.Builder status =
                com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage(message);
        for (Message detail : details) {
            status.addDetails(Any.pack(detail));
        }
        return refusal(code, message, status.build().toByteArray());
    }

    static StatusRuntimeException refusal(Status.Code code, String message, byte[] details) {
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
        public void resume(ResumeRequest request, StreamObserver<ResumeResponse> answer) {
            resumed.add(request);
            StatusRuntimeException refusal = refusals.poll();
            if (refusal == SILENCE) {
                return;
            } else if (refusal != null) {
                answer.onError(refusal);
            } else {
                answer.onNext(ResumeResponse.newBuilder().setRevision(7).build());
                answer.onCompleted();
            }
        }
    }

    private final class Instances extends InstanceServiceGrpc.InstanceServiceImplBase {
        @Override
        public void watchInstance(WatchInstanceRequest request, StreamObserver<WatchInstanceResponse> answer) {
            watched.add(request);
            Consumer<StreamObserver<WatchInstanceResponse>> stream = streams.poll();
            if (stream != null) {
                stream.accept(answer);
            }
        }
    }
}
