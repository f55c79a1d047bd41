package dev.perdure.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Reads, cancels and fires pending timers.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class TimerServiceGrpc {

  private TimerServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "perdure.v1.TimerService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.GetTimerRequest,
      dev.perdure.v1.GetTimerResponse> getGetTimerMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetTimer",
      requestType = dev.perdure.v1.GetTimerRequest.class,
      responseType = dev.perdure.v1.GetTimerResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.GetTimerRequest,
      dev.perdure.v1.GetTimerResponse> getGetTimerMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.GetTimerRequest, dev.perdure.v1.GetTimerResponse> getGetTimerMethod;
    if ((getGetTimerMethod = TimerServiceGrpc.getGetTimerMethod) == null) {
      synchronized (TimerServiceGrpc.class) {
        if ((getGetTimerMethod = TimerServiceGrpc.getGetTimerMethod) == null) {
          TimerServiceGrpc.getGetTimerMethod = getGetTimerMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.GetTimerRequest, dev.perdure.v1.GetTimerResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetTimer"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.GetTimerRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.GetTimerResponse.getDefaultInstance()))
              .setSchemaDescriptor(new TimerServiceMethodDescriptorSupplier("GetTimer"))
              .build();
        }
      }
    }
    return getGetTimerMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.ListTimersRequest,
      dev.perdure.v1.ListTimersResponse> getListTimersMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListTimers",
      requestType = dev.perdure.v1.ListTimersRequest.class,
      responseType = dev.perdure.v1.ListTimersResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.ListTimersRequest,
      dev.perdure.v1.ListTimersResponse> getListTimersMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.ListTimersRequest, dev.perdure.v1.ListTimersResponse> getListTimersMethod;
    if ((getListTimersMethod = TimerServiceGrpc.getListTimersMethod) == null) {
      synchronized (TimerServiceGrpc.class) {
        if ((getListTimersMethod = TimerServiceGrpc.getListTimersMethod) == null) {
          TimerServiceGrpc.getListTimersMethod = getListTimersMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.ListTimersRequest, dev.perdure.v1.ListTimersResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListTimers"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ListTimersRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ListTimersResponse.getDefaultInstance()))
              .setSchemaDescriptor(new TimerServiceMethodDescriptorSupplier("ListTimers"))
              .build();
        }
      }
    }
    return getListTimersMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.CancelTimerRequest,
      dev.perdure.v1.CancelTimerResponse> getCancelTimerMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CancelTimer",
      requestType = dev.perdure.v1.CancelTimerRequest.class,
      responseType = dev.perdure.v1.CancelTimerResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.CancelTimerRequest,
      dev.perdure.v1.CancelTimerResponse> getCancelTimerMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.CancelTimerRequest, dev.perdure.v1.CancelTimerResponse> getCancelTimerMethod;
    if ((getCancelTimerMethod = TimerServiceGrpc.getCancelTimerMethod) == null) {
      synchronized (TimerServiceGrpc.class) {
        if ((getCancelTimerMethod = TimerServiceGrpc.getCancelTimerMethod) == null) {
          TimerServiceGrpc.getCancelTimerMethod = getCancelTimerMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.CancelTimerRequest, dev.perdure.v1.CancelTimerResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CancelTimer"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.CancelTimerRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.CancelTimerResponse.getDefaultInstance()))
              .setSchemaDescriptor(new TimerServiceMethodDescriptorSupplier("CancelTimer"))
              .build();
        }
      }
    }
    return getCancelTimerMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.FireTimerRequest,
      dev.perdure.v1.FireTimerResponse> getFireTimerMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "FireTimer",
      requestType = dev.perdure.v1.FireTimerRequest.class,
      responseType = dev.perdure.v1.FireTimerResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.FireTimerRequest,
      dev.perdure.v1.FireTimerResponse> getFireTimerMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.FireTimerRequest, dev.perdure.v1.FireTimerResponse> getFireTimerMethod;
    if ((getFireTimerMethod = TimerServiceGrpc.getFireTimerMethod) == null) {
      synchronized (TimerServiceGrpc.class) {
        if ((getFireTimerMethod = TimerServiceGrpc.getFireTimerMethod) == null) {
          TimerServiceGrpc.getFireTimerMethod = getFireTimerMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.FireTimerRequest, dev.perdure.v1.FireTimerResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "FireTimer"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.FireTimerRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.FireTimerResponse.getDefaultInstance()))
              .setSchemaDescriptor(new TimerServiceMethodDescriptorSupplier("FireTimer"))
              .build();
        }
      }
    }
    return getFireTimerMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static TimerServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<TimerServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<TimerServiceStub>() {
        @java.lang.Override
        public TimerServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new TimerServiceStub(channel, callOptions);
        }
      };
    return TimerServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static TimerServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<TimerServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<TimerServiceBlockingV2Stub>() {
        @java.lang.Override
        public TimerServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new TimerServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return TimerServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static TimerServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<TimerServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<TimerServiceBlockingStub>() {
        @java.lang.Override
        public TimerServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new TimerServiceBlockingStub(channel, callOptions);
        }
      };
    return TimerServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static TimerServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<TimerServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<TimerServiceFutureStub>() {
        @java.lang.Override
        public TimerServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new TimerServiceFutureStub(channel, callOptions);
        }
      };
    return TimerServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Reads, cancels and fires pending timers.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Returns a pending timer.
     * Errors: INVALID_FIELD, TIMER_NOT_FOUND.
     * </pre>
     */
    default void getTimer(dev.perdure.v1.GetTimerRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.GetTimerResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetTimerMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists pending timers by due time, the earliest first.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    default void listTimers(dev.perdure.v1.ListTimersRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ListTimersResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListTimersMethod(), responseObserver);
    }

    /**
     * <pre>
     * Cancels a pending timer of kind TIMEOUT. Its step continues without it.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND, TIMER_NOT_CANCELLABLE.
     * </pre>
     */
    default void cancelTimer(dev.perdure.v1.CancelTimerRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.CancelTimerResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCancelTimerMethod(), responseObserver);
    }

    /**
     * <pre>
     * Fires a pending timer of any kind now. This is the only way to fire a timer before it is due.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND.
     * </pre>
     */
    default void fireTimer(dev.perdure.v1.FireTimerRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.FireTimerResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getFireTimerMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service TimerService.
   * <pre>
   * Reads, cancels and fires pending timers.
   * </pre>
   */
  public static abstract class TimerServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return TimerServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service TimerService.
   * <pre>
   * Reads, cancels and fires pending timers.
   * </pre>
   */
  public static final class TimerServiceStub
      extends io.grpc.stub.AbstractAsyncStub<TimerServiceStub> {
    private TimerServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected TimerServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new TimerServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns a pending timer.
     * Errors: INVALID_FIELD, TIMER_NOT_FOUND.
     * </pre>
     */
    public void getTimer(dev.perdure.v1.GetTimerRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.GetTimerResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetTimerMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists pending timers by due time, the earliest first.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public void listTimers(dev.perdure.v1.ListTimersRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ListTimersResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListTimersMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Cancels a pending timer of kind TIMEOUT. Its step continues without it.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND, TIMER_NOT_CANCELLABLE.
     * </pre>
     */
    public void cancelTimer(dev.perdure.v1.CancelTimerRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.CancelTimerResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCancelTimerMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Fires a pending timer of any kind now. This is the only way to fire a timer before it is due.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND.
     * </pre>
     */
    public void fireTimer(dev.perdure.v1.FireTimerRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.FireTimerResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getFireTimerMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service TimerService.
   * <pre>
   * Reads, cancels and fires pending timers.
   * </pre>
   */
  public static final class TimerServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<TimerServiceBlockingV2Stub> {
    private TimerServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected TimerServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new TimerServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns a pending timer.
     * Errors: INVALID_FIELD, TIMER_NOT_FOUND.
     * </pre>
     */
    public dev.perdure.v1.GetTimerResponse getTimer(dev.perdure.v1.GetTimerRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetTimerMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists pending timers by due time, the earliest first.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public dev.perdure.v1.ListTimersResponse listTimers(dev.perdure.v1.ListTimersRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListTimersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels a pending timer of kind TIMEOUT. Its step continues without it.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND, TIMER_NOT_CANCELLABLE.
     * </pre>
     */
    public dev.perdure.v1.CancelTimerResponse cancelTimer(dev.perdure.v1.CancelTimerRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCancelTimerMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Fires a pending timer of any kind now. This is the only way to fire a timer before it is due.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND.
     * </pre>
     */
    public dev.perdure.v1.FireTimerResponse fireTimer(dev.perdure.v1.FireTimerRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getFireTimerMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service TimerService.
   * <pre>
   * Reads, cancels and fires pending timers.
   * </pre>
   */
  public static final class TimerServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<TimerServiceBlockingStub> {
    private TimerServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected TimerServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new TimerServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns a pending timer.
     * Errors: INVALID_FIELD, TIMER_NOT_FOUND.
     * </pre>
     */
    public dev.perdure.v1.GetTimerResponse getTimer(dev.perdure.v1.GetTimerRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetTimerMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists pending timers by due time, the earliest first.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public dev.perdure.v1.ListTimersResponse listTimers(dev.perdure.v1.ListTimersRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListTimersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels a pending timer of kind TIMEOUT. Its step continues without it.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND, TIMER_NOT_CANCELLABLE.
     * </pre>
     */
    public dev.perdure.v1.CancelTimerResponse cancelTimer(dev.perdure.v1.CancelTimerRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCancelTimerMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Fires a pending timer of any kind now. This is the only way to fire a timer before it is due.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND.
     * </pre>
     */
    public dev.perdure.v1.FireTimerResponse fireTimer(dev.perdure.v1.FireTimerRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getFireTimerMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service TimerService.
   * <pre>
   * Reads, cancels and fires pending timers.
   * </pre>
   */
  public static final class TimerServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<TimerServiceFutureStub> {
    private TimerServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected TimerServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new TimerServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns a pending timer.
     * Errors: INVALID_FIELD, TIMER_NOT_FOUND.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.GetTimerResponse> getTimer(
        dev.perdure.v1.GetTimerRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetTimerMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists pending timers by due time, the earliest first.
     * Errors: INVALID_FIELD (also for a page_token of another query).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.ListTimersResponse> listTimers(
        dev.perdure.v1.ListTimersRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListTimersMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Cancels a pending timer of kind TIMEOUT. Its step continues without it.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND, TIMER_NOT_CANCELLABLE.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.CancelTimerResponse> cancelTimer(
        dev.perdure.v1.CancelTimerRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCancelTimerMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Fires a pending timer of any kind now. This is the only way to fire a timer before it is due.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, TIMER_NOT_FOUND.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.FireTimerResponse> fireTimer(
        dev.perdure.v1.FireTimerRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getFireTimerMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GET_TIMER = 0;
  private static final int METHODID_LIST_TIMERS = 1;
  private static final int METHODID_CANCEL_TIMER = 2;
  private static final int METHODID_FIRE_TIMER = 3;

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
        case METHODID_GET_TIMER:
          serviceImpl.getTimer((dev.perdure.v1.GetTimerRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.GetTimerResponse>) responseObserver);
          break;
        case METHODID_LIST_TIMERS:
          serviceImpl.listTimers((dev.perdure.v1.ListTimersRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.ListTimersResponse>) responseObserver);
          break;
        case METHODID_CANCEL_TIMER:
          serviceImpl.cancelTimer((dev.perdure.v1.CancelTimerRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.CancelTimerResponse>) responseObserver);
          break;
        case METHODID_FIRE_TIMER:
          serviceImpl.fireTimer((dev.perdure.v1.FireTimerRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.FireTimerResponse>) responseObserver);
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
          getGetTimerMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.GetTimerRequest,
              dev.perdure.v1.GetTimerResponse>(
                service, METHODID_GET_TIMER)))
        .addMethod(
          getListTimersMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.ListTimersRequest,
              dev.perdure.v1.ListTimersResponse>(
                service, METHODID_LIST_TIMERS)))
        .addMethod(
          getCancelTimerMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.CancelTimerRequest,
              dev.perdure.v1.CancelTimerResponse>(
                service, METHODID_CANCEL_TIMER)))
        .addMethod(
          getFireTimerMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.FireTimerRequest,
              dev.perdure.v1.FireTimerResponse>(
                service, METHODID_FIRE_TIMER)))
        .build();
  }

  private static abstract class TimerServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    TimerServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.perdure.v1.TimerServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("TimerService");
    }
  }

  private static final class TimerServiceFileDescriptorSupplier
      extends TimerServiceBaseDescriptorSupplier {
    TimerServiceFileDescriptorSupplier() {}
  }

  private static final class TimerServiceMethodDescriptorSupplier
      extends TimerServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    TimerServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (TimerServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new TimerServiceFileDescriptorSupplier())
              .addMethod(getGetTimerMethod())
              .addMethod(getListTimersMethod())
              .addMethod(getCancelTimerMethod())
              .addMethod(getFireTimerMethod())
              .build();
        }
      }
    }
    return result;
  }
}
