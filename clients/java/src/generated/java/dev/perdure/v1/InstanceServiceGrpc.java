package dev.perdure.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Reads, watches, cancels and retries instances.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class InstanceServiceGrpc {

  private InstanceServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "perdure.v1.InstanceService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.GetInstanceRequest,
      dev.perdure.v1.GetInstanceResponse> getGetInstanceMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetInstance",
      requestType = dev.perdure.v1.GetInstanceRequest.class,
      responseType = dev.perdure.v1.GetInstanceResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.GetInstanceRequest,
      dev.perdure.v1.GetInstanceResponse> getGetInstanceMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.GetInstanceRequest, dev.perdure.v1.GetInstanceResponse> getGetInstanceMethod;
    if ((getGetInstanceMethod = InstanceServiceGrpc.getGetInstanceMethod) == null) {
      synchronized (InstanceServiceGrpc.class) {
        if ((getGetInstanceMethod = InstanceServiceGrpc.getGetInstanceMethod) == null) {
          InstanceServiceGrpc.getGetInstanceMethod = getGetInstanceMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.GetInstanceRequest, dev.perdure.v1.GetInstanceResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetInstance"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.GetInstanceRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.GetInstanceResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InstanceServiceMethodDescriptorSupplier("GetInstance"))
              .build();
        }
      }
    }
    return getGetInstanceMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.ListInstancesRequest,
      dev.perdure.v1.ListInstancesResponse> getListInstancesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListInstances",
      requestType = dev.perdure.v1.ListInstancesRequest.class,
      responseType = dev.perdure.v1.ListInstancesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.ListInstancesRequest,
      dev.perdure.v1.ListInstancesResponse> getListInstancesMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.ListInstancesRequest, dev.perdure.v1.ListInstancesResponse> getListInstancesMethod;
    if ((getListInstancesMethod = InstanceServiceGrpc.getListInstancesMethod) == null) {
      synchronized (InstanceServiceGrpc.class) {
        if ((getListInstancesMethod = InstanceServiceGrpc.getListInstancesMethod) == null) {
          InstanceServiceGrpc.getListInstancesMethod = getListInstancesMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.ListInstancesRequest, dev.perdure.v1.ListInstancesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListInstances"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ListInstancesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ListInstancesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InstanceServiceMethodDescriptorSupplier("ListInstances"))
              .build();
        }
      }
    }
    return getListInstancesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.ListHistoryRequest,
      dev.perdure.v1.ListHistoryResponse> getListHistoryMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListHistory",
      requestType = dev.perdure.v1.ListHistoryRequest.class,
      responseType = dev.perdure.v1.ListHistoryResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.ListHistoryRequest,
      dev.perdure.v1.ListHistoryResponse> getListHistoryMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.ListHistoryRequest, dev.perdure.v1.ListHistoryResponse> getListHistoryMethod;
    if ((getListHistoryMethod = InstanceServiceGrpc.getListHistoryMethod) == null) {
      synchronized (InstanceServiceGrpc.class) {
        if ((getListHistoryMethod = InstanceServiceGrpc.getListHistoryMethod) == null) {
          InstanceServiceGrpc.getListHistoryMethod = getListHistoryMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.ListHistoryRequest, dev.perdure.v1.ListHistoryResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListHistory"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ListHistoryRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ListHistoryResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InstanceServiceMethodDescriptorSupplier("ListHistory"))
              .build();
        }
      }
    }
    return getListHistoryMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.WatchInstanceRequest,
      dev.perdure.v1.WatchInstanceResponse> getWatchInstanceMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchInstance",
      requestType = dev.perdure.v1.WatchInstanceRequest.class,
      responseType = dev.perdure.v1.WatchInstanceResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.WatchInstanceRequest,
      dev.perdure.v1.WatchInstanceResponse> getWatchInstanceMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.WatchInstanceRequest, dev.perdure.v1.WatchInstanceResponse> getWatchInstanceMethod;
    if ((getWatchInstanceMethod = InstanceServiceGrpc.getWatchInstanceMethod) == null) {
      synchronized (InstanceServiceGrpc.class) {
        if ((getWatchInstanceMethod = InstanceServiceGrpc.getWatchInstanceMethod) == null) {
          InstanceServiceGrpc.getWatchInstanceMethod = getWatchInstanceMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.WatchInstanceRequest, dev.perdure.v1.WatchInstanceResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchInstance"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.WatchInstanceRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.WatchInstanceResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InstanceServiceMethodDescriptorSupplier("WatchInstance"))
              .build();
        }
      }
    }
    return getWatchInstanceMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.CancelInstanceRequest,
      dev.perdure.v1.CancelInstanceResponse> getCancelInstanceMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CancelInstance",
      requestType = dev.perdure.v1.CancelInstanceRequest.class,
      responseType = dev.perdure.v1.CancelInstanceResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.CancelInstanceRequest,
      dev.perdure.v1.CancelInstanceResponse> getCancelInstanceMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.CancelInstanceRequest, dev.perdure.v1.CancelInstanceResponse> getCancelInstanceMethod;
    if ((getCancelInstanceMethod = InstanceServiceGrpc.getCancelInstanceMethod) == null) {
      synchronized (InstanceServiceGrpc.class) {
        if ((getCancelInstanceMethod = InstanceServiceGrpc.getCancelInstanceMethod) == null) {
          InstanceServiceGrpc.getCancelInstanceMethod = getCancelInstanceMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.CancelInstanceRequest, dev.perdure.v1.CancelInstanceResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CancelInstance"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.CancelInstanceRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.CancelInstanceResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InstanceServiceMethodDescriptorSupplier("CancelInstance"))
              .build();
        }
      }
    }
    return getCancelInstanceMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.RetryInstanceRequest,
      dev.perdure.v1.RetryInstanceResponse> getRetryInstanceMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RetryInstance",
      requestType = dev.perdure.v1.RetryInstanceRequest.class,
      responseType = dev.perdure.v1.RetryInstanceResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.RetryInstanceRequest,
      dev.perdure.v1.RetryInstanceResponse> getRetryInstanceMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.RetryInstanceRequest, dev.perdure.v1.RetryInstanceResponse> getRetryInstanceMethod;
    if ((getRetryInstanceMethod = InstanceServiceGrpc.getRetryInstanceMethod) == null) {
      synchronized (InstanceServiceGrpc.class) {
        if ((getRetryInstanceMethod = InstanceServiceGrpc.getRetryInstanceMethod) == null) {
          InstanceServiceGrpc.getRetryInstanceMethod = getRetryInstanceMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.RetryInstanceRequest, dev.perdure.v1.RetryInstanceResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RetryInstance"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.RetryInstanceRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.RetryInstanceResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InstanceServiceMethodDescriptorSupplier("RetryInstance"))
              .build();
        }
      }
    }
    return getRetryInstanceMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static InstanceServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InstanceServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InstanceServiceStub>() {
        @java.lang.Override
        public InstanceServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InstanceServiceStub(channel, callOptions);
        }
      };
    return InstanceServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static InstanceServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InstanceServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InstanceServiceBlockingV2Stub>() {
        @java.lang.Override
        public InstanceServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InstanceServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return InstanceServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static InstanceServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InstanceServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InstanceServiceBlockingStub>() {
        @java.lang.Override
        public InstanceServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InstanceServiceBlockingStub(channel, callOptions);
        }
      };
    return InstanceServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static InstanceServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InstanceServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InstanceServiceFutureStub>() {
        @java.lang.Override
        public InstanceServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InstanceServiceFutureStub(channel, callOptions);
        }
      };
    return InstanceServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Reads, watches, cancels and retries instances.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Returns the current state of an instance, with its payloads. It reads committed data, from any
     * replica.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND.
     * </pre>
     */
    default void getInstance(dev.perdure.v1.GetInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.GetInstanceResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetInstanceMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists instances, newest first. Pages do not repeat an instance. An instance that was started
     * meanwhile might be missing.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    default void listInstances(dev.perdure.v1.ListInstancesRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ListInstancesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListInstancesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the history of an instance in order of revision.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    default void listHistory(dev.perdure.v1.ListHistoryRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ListHistoryResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListHistoryMethod(), responseObserver);
    }

    /**
     * <pre>
     * Watches an instance: sends a snapshot, then every later history entry once, in order, without a
     * gap, then WatchEnd.
     * With after_revision there is no snapshot. The entries after that revision follow at once. If
     * the stream breaks, continue from the revision of the last message that you received. A stream
     * that is read too slowly ends with WATCH_END_REASON_TOO_SLOW. Continue it in the same way.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    default void watchInstance(dev.perdure.v1.WatchInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.WatchInstanceResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchInstanceMethod(), responseObserver);
    }

    /**
     * <pre>
     * Ends an instance that has not ended. After the revision of the response no attempt is created,
     * no timer fires and no result is accepted. Running steps are cancelled. A FAILED instance can be
     * cancelled too.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED.
     * </pre>
     */
    default void cancelInstance(dev.perdure.v1.CancelInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.CancelInstanceResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCancelInstanceMethod(), responseObserver);
    }

    /**
     * <pre>
     * Continues a FAILED instance. Failed and interrupted tasks get a new attempt. Interrupted waits,
     * sleeps and backoffs keep their deadline. Finished steps never run again. The instance takes its
     * business key again.
     * Every timer that ScheduleResume returned is kept with its original due time and gets a new
     * reference. A timer that is past due fires at once.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_NOT_FAILED,
     * BUSINESS_KEY_IN_USE, WORKFLOW_NOT_FOUND (another graph was stored under the version since the
     * failure, because only live instances protect theirs).
     * </pre>
     */
    default void retryInstance(dev.perdure.v1.RetryInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.RetryInstanceResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRetryInstanceMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service InstanceService.
   * <pre>
   * Reads, watches, cancels and retries instances.
   * </pre>
   */
  public static abstract class InstanceServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return InstanceServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service InstanceService.
   * <pre>
   * Reads, watches, cancels and retries instances.
   * </pre>
   */
  public static final class InstanceServiceStub
      extends io.grpc.stub.AbstractAsyncStub<InstanceServiceStub> {
    private InstanceServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InstanceServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InstanceServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the current state of an instance, with its payloads. It reads committed data, from any
     * replica.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND.
     * </pre>
     */
    public void getInstance(dev.perdure.v1.GetInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.GetInstanceResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetInstanceMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists instances, newest first. Pages do not repeat an instance. An instance that was started
     * meanwhile might be missing.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public void listInstances(dev.perdure.v1.ListInstancesRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ListInstancesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListInstancesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the history of an instance in order of revision.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    public void listHistory(dev.perdure.v1.ListHistoryRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ListHistoryResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListHistoryMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Watches an instance: sends a snapshot, then every later history entry once, in order, without a
     * gap, then WatchEnd.
     * With after_revision there is no snapshot. The entries after that revision follow at once. If
     * the stream breaks, continue from the revision of the last message that you received. A stream
     * that is read too slowly ends with WATCH_END_REASON_TOO_SLOW. Continue it in the same way.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    public void watchInstance(dev.perdure.v1.WatchInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.WatchInstanceResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchInstanceMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Ends an instance that has not ended. After the revision of the response no attempt is created,
     * no timer fires and no result is accepted. Running steps are cancelled. A FAILED instance can be
     * cancelled too.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED.
     * </pre>
     */
    public void cancelInstance(dev.perdure.v1.CancelInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.CancelInstanceResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCancelInstanceMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Continues a FAILED instance. Failed and interrupted tasks get a new attempt. Interrupted waits,
     * sleeps and backoffs keep their deadline. Finished steps never run again. The instance takes its
     * business key again.
     * Every timer that ScheduleResume returned is kept with its original due time and gets a new
     * reference. A timer that is past due fires at once.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_NOT_FAILED,
     * BUSINESS_KEY_IN_USE, WORKFLOW_NOT_FOUND (another graph was stored under the version since the
     * failure, because only live instances protect theirs).
     * </pre>
     */
    public void retryInstance(dev.perdure.v1.RetryInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.RetryInstanceResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRetryInstanceMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service InstanceService.
   * <pre>
   * Reads, watches, cancels and retries instances.
   * </pre>
   */
  public static final class InstanceServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<InstanceServiceBlockingV2Stub> {
    private InstanceServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InstanceServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InstanceServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the current state of an instance, with its payloads. It reads committed data, from any
     * replica.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND.
     * </pre>
     */
    public dev.perdure.v1.GetInstanceResponse getInstance(dev.perdure.v1.GetInstanceRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists instances, newest first. Pages do not repeat an instance. An instance that was started
     * meanwhile might be missing.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public dev.perdure.v1.ListInstancesResponse listInstances(dev.perdure.v1.ListInstancesRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListInstancesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the history of an instance in order of revision.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    public dev.perdure.v1.ListHistoryResponse listHistory(dev.perdure.v1.ListHistoryRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListHistoryMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Watches an instance: sends a snapshot, then every later history entry once, in order, without a
     * gap, then WatchEnd.
     * With after_revision there is no snapshot. The entries after that revision follow at once. If
     * the stream breaks, continue from the revision of the last message that you received. A stream
     * that is read too slowly ends with WATCH_END_REASON_TOO_SLOW. Continue it in the same way.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.perdure.v1.WatchInstanceResponse>
        watchInstance(dev.perdure.v1.WatchInstanceRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getWatchInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends an instance that has not ended. After the revision of the response no attempt is created,
     * no timer fires and no result is accepted. Running steps are cancelled. A FAILED instance can be
     * cancelled too.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED.
     * </pre>
     */
    public dev.perdure.v1.CancelInstanceResponse cancelInstance(dev.perdure.v1.CancelInstanceRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCancelInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Continues a FAILED instance. Failed and interrupted tasks get a new attempt. Interrupted waits,
     * sleeps and backoffs keep their deadline. Finished steps never run again. The instance takes its
     * business key again.
     * Every timer that ScheduleResume returned is kept with its original due time and gets a new
     * reference. A timer that is past due fires at once.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_NOT_FAILED,
     * BUSINESS_KEY_IN_USE, WORKFLOW_NOT_FOUND (another graph was stored under the version since the
     * failure, because only live instances protect theirs).
     * </pre>
     */
    public dev.perdure.v1.RetryInstanceResponse retryInstance(dev.perdure.v1.RetryInstanceRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getRetryInstanceMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service InstanceService.
   * <pre>
   * Reads, watches, cancels and retries instances.
   * </pre>
   */
  public static final class InstanceServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<InstanceServiceBlockingStub> {
    private InstanceServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InstanceServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InstanceServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the current state of an instance, with its payloads. It reads committed data, from any
     * replica.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND.
     * </pre>
     */
    public dev.perdure.v1.GetInstanceResponse getInstance(dev.perdure.v1.GetInstanceRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists instances, newest first. Pages do not repeat an instance. An instance that was started
     * meanwhile might be missing.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public dev.perdure.v1.ListInstancesResponse listInstances(dev.perdure.v1.ListInstancesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListInstancesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the history of an instance in order of revision.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    public dev.perdure.v1.ListHistoryResponse listHistory(dev.perdure.v1.ListHistoryRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListHistoryMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Watches an instance: sends a snapshot, then every later history entry once, in order, without a
     * gap, then WatchEnd.
     * With after_revision there is no snapshot. The entries after that revision follow at once. If
     * the stream breaks, continue from the revision of the last message that you received. A stream
     * that is read too slowly ends with WATCH_END_REASON_TOO_SLOW. Continue it in the same way.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    public java.util.Iterator<dev.perdure.v1.WatchInstanceResponse> watchInstance(
        dev.perdure.v1.WatchInstanceRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends an instance that has not ended. After the revision of the response no attempt is created,
     * no timer fires and no result is accepted. Running steps are cancelled. A FAILED instance can be
     * cancelled too.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED.
     * </pre>
     */
    public dev.perdure.v1.CancelInstanceResponse cancelInstance(dev.perdure.v1.CancelInstanceRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCancelInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Continues a FAILED instance. Failed and interrupted tasks get a new attempt. Interrupted waits,
     * sleeps and backoffs keep their deadline. Finished steps never run again. The instance takes its
     * business key again.
     * Every timer that ScheduleResume returned is kept with its original due time and gets a new
     * reference. A timer that is past due fires at once.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_NOT_FAILED,
     * BUSINESS_KEY_IN_USE, WORKFLOW_NOT_FOUND (another graph was stored under the version since the
     * failure, because only live instances protect theirs).
     * </pre>
     */
    public dev.perdure.v1.RetryInstanceResponse retryInstance(dev.perdure.v1.RetryInstanceRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRetryInstanceMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service InstanceService.
   * <pre>
   * Reads, watches, cancels and retries instances.
   * </pre>
   */
  public static final class InstanceServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<InstanceServiceFutureStub> {
    private InstanceServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InstanceServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InstanceServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the current state of an instance, with its payloads. It reads committed data, from any
     * replica.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.GetInstanceResponse> getInstance(
        dev.perdure.v1.GetInstanceRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetInstanceMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists instances, newest first. Pages do not repeat an instance. An instance that was started
     * meanwhile might be missing.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.ListInstancesResponse> listInstances(
        dev.perdure.v1.ListInstancesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListInstancesMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the history of an instance in order of revision.
     * Errors: INVALID_FIELD, INSTANCE_NOT_FOUND, REVISION_COMPACTED, REVISION_IN_FUTURE.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.ListHistoryResponse> listHistory(
        dev.perdure.v1.ListHistoryRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListHistoryMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Ends an instance that has not ended. After the revision of the response no attempt is created,
     * no timer fires and no result is accepted. Running steps are cancelled. A FAILED instance can be
     * cancelled too.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.CancelInstanceResponse> cancelInstance(
        dev.perdure.v1.CancelInstanceRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCancelInstanceMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Continues a FAILED instance. Failed and interrupted tasks get a new attempt. Interrupted waits,
     * sleeps and backoffs keep their deadline. Finished steps never run again. The instance takes its
     * business key again.
     * Every timer that ScheduleResume returned is kept with its original due time and gets a new
     * reference. A timer that is past due fires at once.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_NOT_FAILED,
     * BUSINESS_KEY_IN_USE, WORKFLOW_NOT_FOUND (another graph was stored under the version since the
     * failure, because only live instances protect theirs).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.RetryInstanceResponse> retryInstance(
        dev.perdure.v1.RetryInstanceRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRetryInstanceMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GET_INSTANCE = 0;
  private static final int METHODID_LIST_INSTANCES = 1;
  private static final int METHODID_LIST_HISTORY = 2;
  private static final int METHODID_WATCH_INSTANCE = 3;
  private static final int METHODID_CANCEL_INSTANCE = 4;
  private static final int METHODID_RETRY_INSTANCE = 5;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_GET_INSTANCE:
          serviceImpl.getInstance((dev.perdure.v1.GetInstanceRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.GetInstanceResponse>) responseObserver);
          break;
        case METHODID_LIST_INSTANCES:
          serviceImpl.listInstances((dev.perdure.v1.ListInstancesRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.ListInstancesResponse>) responseObserver);
          break;
        case METHODID_LIST_HISTORY:
          serviceImpl.listHistory((dev.perdure.v1.ListHistoryRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.ListHistoryResponse>) responseObserver);
          break;
        case METHODID_WATCH_INSTANCE:
          serviceImpl.watchInstance((dev.perdure.v1.WatchInstanceRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.WatchInstanceResponse>) responseObserver);
          break;
        case METHODID_CANCEL_INSTANCE:
          serviceImpl.cancelInstance((dev.perdure.v1.CancelInstanceRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.CancelInstanceResponse>) responseObserver);
          break;
        case METHODID_RETRY_INSTANCE:
          serviceImpl.retryInstance((dev.perdure.v1.RetryInstanceRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.RetryInstanceResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getGetInstanceMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.GetInstanceRequest,
              dev.perdure.v1.GetInstanceResponse>(
                service, METHODID_GET_INSTANCE)))
        .addMethod(
          getListInstancesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.ListInstancesRequest,
              dev.perdure.v1.ListInstancesResponse>(
                service, METHODID_LIST_INSTANCES)))
        .addMethod(
          getListHistoryMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.ListHistoryRequest,
              dev.perdure.v1.ListHistoryResponse>(
                service, METHODID_LIST_HISTORY)))
        .addMethod(
          getWatchInstanceMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.perdure.v1.WatchInstanceRequest,
              dev.perdure.v1.WatchInstanceResponse>(
                service, METHODID_WATCH_INSTANCE)))
        .addMethod(
          getCancelInstanceMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.CancelInstanceRequest,
              dev.perdure.v1.CancelInstanceResponse>(
                service, METHODID_CANCEL_INSTANCE)))
        .addMethod(
          getRetryInstanceMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.RetryInstanceRequest,
              dev.perdure.v1.RetryInstanceResponse>(
                service, METHODID_RETRY_INSTANCE)))
        .build();
  }

  private static abstract class InstanceServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    InstanceServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.perdure.v1.InstanceServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("InstanceService");
    }
  }

  private static final class InstanceServiceFileDescriptorSupplier
      extends InstanceServiceBaseDescriptorSupplier {
    InstanceServiceFileDescriptorSupplier() {}
  }

  private static final class InstanceServiceMethodDescriptorSupplier
      extends InstanceServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    InstanceServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (InstanceServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new InstanceServiceFileDescriptorSupplier())
              .addMethod(getGetInstanceMethod())
              .addMethod(getListInstancesMethod())
              .addMethod(getListHistoryMethod())
              .addMethod(getWatchInstanceMethod())
              .addMethod(getCancelInstanceMethod())
              .addMethod(getRetryInstanceMethod())
              .build();
        }
      }
    }
    return result;
  }
}
