package dev.perdure.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Starts, resumes and times instances. Once a method returns OK, its effect is stored durably.
 * You can send every call again with its request_id. It takes effect at most once, and a repeat
 * returns the first response. Rejections are not remembered. Any method of the API can also fail
 * with OVERLOADED, DATABASE_UNAVAILABLE or SHUTTING_DOWN, and a mutating one with COMMIT_UNKNOWN.
 * The comments list further errors only. See ErrorReason.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class RunnerServiceGrpc {

  private RunnerServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "perdure.v1.RunnerService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.StartInstanceRequest,
      dev.perdure.v1.StartInstanceResponse> getStartInstanceMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StartInstance",
      requestType = dev.perdure.v1.StartInstanceRequest.class,
      responseType = dev.perdure.v1.StartInstanceResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.StartInstanceRequest,
      dev.perdure.v1.StartInstanceResponse> getStartInstanceMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.StartInstanceRequest, dev.perdure.v1.StartInstanceResponse> getStartInstanceMethod;
    if ((getStartInstanceMethod = RunnerServiceGrpc.getStartInstanceMethod) == null) {
      synchronized (RunnerServiceGrpc.class) {
        if ((getStartInstanceMethod = RunnerServiceGrpc.getStartInstanceMethod) == null) {
          RunnerServiceGrpc.getStartInstanceMethod = getStartInstanceMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.StartInstanceRequest, dev.perdure.v1.StartInstanceResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StartInstance"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.StartInstanceRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.StartInstanceResponse.getDefaultInstance()))
              .setSchemaDescriptor(new RunnerServiceMethodDescriptorSupplier("StartInstance"))
              .build();
        }
      }
    }
    return getStartInstanceMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.ResumeRequest,
      dev.perdure.v1.ResumeResponse> getResumeMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Resume",
      requestType = dev.perdure.v1.ResumeRequest.class,
      responseType = dev.perdure.v1.ResumeResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.ResumeRequest,
      dev.perdure.v1.ResumeResponse> getResumeMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.ResumeRequest, dev.perdure.v1.ResumeResponse> getResumeMethod;
    if ((getResumeMethod = RunnerServiceGrpc.getResumeMethod) == null) {
      synchronized (RunnerServiceGrpc.class) {
        if ((getResumeMethod = RunnerServiceGrpc.getResumeMethod) == null) {
          RunnerServiceGrpc.getResumeMethod = getResumeMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.ResumeRequest, dev.perdure.v1.ResumeResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Resume"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ResumeRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ResumeResponse.getDefaultInstance()))
              .setSchemaDescriptor(new RunnerServiceMethodDescriptorSupplier("Resume"))
              .build();
        }
      }
    }
    return getResumeMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.perdure.v1.ScheduleResumeRequest,
      dev.perdure.v1.ScheduleResumeResponse> getScheduleResumeMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ScheduleResume",
      requestType = dev.perdure.v1.ScheduleResumeRequest.class,
      responseType = dev.perdure.v1.ScheduleResumeResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.perdure.v1.ScheduleResumeRequest,
      dev.perdure.v1.ScheduleResumeResponse> getScheduleResumeMethod() {
    io.grpc.MethodDescriptor<dev.perdure.v1.ScheduleResumeRequest, dev.perdure.v1.ScheduleResumeResponse> getScheduleResumeMethod;
    if ((getScheduleResumeMethod = RunnerServiceGrpc.getScheduleResumeMethod) == null) {
      synchronized (RunnerServiceGrpc.class) {
        if ((getScheduleResumeMethod = RunnerServiceGrpc.getScheduleResumeMethod) == null) {
          RunnerServiceGrpc.getScheduleResumeMethod = getScheduleResumeMethod =
              io.grpc.MethodDescriptor.<dev.perdure.v1.ScheduleResumeRequest, dev.perdure.v1.ScheduleResumeResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ScheduleResume"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ScheduleResumeRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.perdure.v1.ScheduleResumeResponse.getDefaultInstance()))
              .setSchemaDescriptor(new RunnerServiceMethodDescriptorSupplier("ScheduleResume"))
              .build();
        }
      }
    }
    return getScheduleResumeMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static RunnerServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RunnerServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RunnerServiceStub>() {
        @java.lang.Override
        public RunnerServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RunnerServiceStub(channel, callOptions);
        }
      };
    return RunnerServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static RunnerServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RunnerServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RunnerServiceBlockingV2Stub>() {
        @java.lang.Override
        public RunnerServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RunnerServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return RunnerServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static RunnerServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RunnerServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RunnerServiceBlockingStub>() {
        @java.lang.Override
        public RunnerServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RunnerServiceBlockingStub(channel, callOptions);
        }
      };
    return RunnerServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static RunnerServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RunnerServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RunnerServiceFutureStub>() {
        @java.lang.Override
        public RunnerServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RunnerServiceFutureStub(channel, callOptions);
        }
      };
    return RunnerServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Starts, resumes and times instances. Once a method returns OK, its effect is stored durably.
   * You can send every call again with its request_id. It takes effect at most once, and a repeat
   * returns the first response. Rejections are not remembered. Any method of the API can also fail
   * with OVERLOADED, DATABASE_UNAVAILABLE or SHUTTING_DOWN, and a mutating one with COMMIT_UNKNOWN.
   * The comments list further errors only. See ErrorReason.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Stores a new instance of a workflow and starts running it, at once or after start_delay_ms.
     * Errors, checked in this order: INVALID_FIELD, PAYLOAD_TOO_LARGE; REQUEST_ID_REUSED;
     * WORKFLOW_NOT_FOUND; INSTANCE_ALREADY_EXISTS; BUSINESS_KEY_IN_USE.
     * </pre>
     */
    default void startInstance(dev.perdure.v1.StartInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.StartInstanceResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStartInstanceMethod(), responseObserver);
    }

    /**
     * <pre>
     * Delivers an external event to the step that waits for it, and continues the instance.
     * If one waiting step accepts the event, it is delivered. If none waits, but a step that accepts
     * it runs or backs off, the event is buffered for that step. If such a step can only be reached
     * later, the call fails with EVENT_NOT_AWAITED, or, with `buffer`, the event is kept in the
     * instance's inbox. If `step_ref` names a step, these rules apply to that step only:
     * EVENT_NEVER_ACCEPTED if it never accepts the event, STEP_FINISHED if it has ended or was
     * skipped, STEP_UNREACHABLE if it will never start.
     * Errors: INVALID_FIELD, PAYLOAD_TOO_LARGE, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND,
     * INSTANCE_ENDED, STEP_NOT_FOUND, EVENT_NEVER_ACCEPTED, STEP_FINISHED, STEP_UNREACHABLE,
     * EVENT_NOT_AWAITED, AMBIGUOUS_EVENT, INBOX_FULL.
     * </pre>
     */
    default void resume(dev.perdure.v1.ResumeRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ResumeResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getResumeMethod(), responseObserver);
    }

    /**
     * <pre>
     * Arms a durable timer that ends a step with the event `timeout`, never before delay_ms have
     * passed.
     * If the step waits, runs or backs off when the timer fires, it takes its `timeout` transition.
     * The result of a running attempt is rejected from then on. If the step has finished or has not
     * started, the firing is recorded as unused and has no other effect.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED, STEP_NOT_FOUND,
     * STEP_FINISHED, STEP_UNREACHABLE, STEP_HAS_NO_TIMEOUT, TOO_MANY_TIMERS.
     * </pre>
     */
    default void scheduleResume(dev.perdure.v1.ScheduleResumeRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ScheduleResumeResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getScheduleResumeMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service RunnerService.
   * <pre>
   * Starts, resumes and times instances. Once a method returns OK, its effect is stored durably.
   * You can send every call again with its request_id. It takes effect at most once, and a repeat
   * returns the first response. Rejections are not remembered. Any method of the API can also fail
   * with OVERLOADED, DATABASE_UNAVAILABLE or SHUTTING_DOWN, and a mutating one with COMMIT_UNKNOWN.
   * The comments list further errors only. See ErrorReason.
   * </pre>
   */
  public static abstract class RunnerServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return RunnerServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service RunnerService.
   * <pre>
   * Starts, resumes and times instances. Once a method returns OK, its effect is stored durably.
   * You can send every call again with its request_id. It takes effect at most once, and a repeat
   * returns the first response. Rejections are not remembered. Any method of the API can also fail
   * with OVERLOADED, DATABASE_UNAVAILABLE or SHUTTING_DOWN, and a mutating one with COMMIT_UNKNOWN.
   * The comments list further errors only. See ErrorReason.
   * </pre>
   */
  public static final class RunnerServiceStub
      extends io.grpc.stub.AbstractAsyncStub<RunnerServiceStub> {
    private RunnerServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RunnerServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RunnerServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores a new instance of a workflow and starts running it, at once or after start_delay_ms.
     * Errors, checked in this order: INVALID_FIELD, PAYLOAD_TOO_LARGE; REQUEST_ID_REUSED;
     * WORKFLOW_NOT_FOUND; INSTANCE_ALREADY_EXISTS; BUSINESS_KEY_IN_USE.
     * </pre>
     */
    public void startInstance(dev.perdure.v1.StartInstanceRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.StartInstanceResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getStartInstanceMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Delivers an external event to the step that waits for it, and continues the instance.
     * If one waiting step accepts the event, it is delivered. If none waits, but a step that accepts
     * it runs or backs off, the event is buffered for that step. If such a step can only be reached
     * later, the call fails with EVENT_NOT_AWAITED, or, with `buffer`, the event is kept in the
     * instance's inbox. If `step_ref` names a step, these rules apply to that step only:
     * EVENT_NEVER_ACCEPTED if it never accepts the event, STEP_FINISHED if it has ended or was
     * skipped, STEP_UNREACHABLE if it will never start.
     * Errors: INVALID_FIELD, PAYLOAD_TOO_LARGE, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND,
     * INSTANCE_ENDED, STEP_NOT_FOUND, EVENT_NEVER_ACCEPTED, STEP_FINISHED, STEP_UNREACHABLE,
     * EVENT_NOT_AWAITED, AMBIGUOUS_EVENT, INBOX_FULL.
     * </pre>
     */
    public void resume(dev.perdure.v1.ResumeRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ResumeResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getResumeMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Arms a durable timer that ends a step with the event `timeout`, never before delay_ms have
     * passed.
     * If the step waits, runs or backs off when the timer fires, it takes its `timeout` transition.
     * The result of a running attempt is rejected from then on. If the step has finished or has not
     * started, the firing is recorded as unused and has no other effect.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED, STEP_NOT_FOUND,
     * STEP_FINISHED, STEP_UNREACHABLE, STEP_HAS_NO_TIMEOUT, TOO_MANY_TIMERS.
     * </pre>
     */
    public void scheduleResume(dev.perdure.v1.ScheduleResumeRequest request,
        io.grpc.stub.StreamObserver<dev.perdure.v1.ScheduleResumeResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getScheduleResumeMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service RunnerService.
   * <pre>
   * Starts, resumes and times instances. Once a method returns OK, its effect is stored durably.
   * You can send every call again with its request_id. It takes effect at most once, and a repeat
   * returns the first response. Rejections are not remembered. Any method of the API can also fail
   * with OVERLOADED, DATABASE_UNAVAILABLE or SHUTTING_DOWN, and a mutating one with COMMIT_UNKNOWN.
   * The comments list further errors only. See ErrorReason.
   * </pre>
   */
  public static final class RunnerServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<RunnerServiceBlockingV2Stub> {
    private RunnerServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RunnerServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RunnerServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores a new instance of a workflow and starts running it, at once or after start_delay_ms.
     * Errors, checked in this order: INVALID_FIELD, PAYLOAD_TOO_LARGE; REQUEST_ID_REUSED;
     * WORKFLOW_NOT_FOUND; INSTANCE_ALREADY_EXISTS; BUSINESS_KEY_IN_USE.
     * </pre>
     */
    public dev.perdure.v1.StartInstanceResponse startInstance(dev.perdure.v1.StartInstanceRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getStartInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Delivers an external event to the step that waits for it, and continues the instance.
     * If one waiting step accepts the event, it is delivered. If none waits, but a step that accepts
     * it runs or backs off, the event is buffered for that step. If such a step can only be reached
     * later, the call fails with EVENT_NOT_AWAITED, or, with `buffer`, the event is kept in the
     * instance's inbox. If `step_ref` names a step, these rules apply to that step only:
     * EVENT_NEVER_ACCEPTED if it never accepts the event, STEP_FINISHED if it has ended or was
     * skipped, STEP_UNREACHABLE if it will never start.
     * Errors: INVALID_FIELD, PAYLOAD_TOO_LARGE, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND,
     * INSTANCE_ENDED, STEP_NOT_FOUND, EVENT_NEVER_ACCEPTED, STEP_FINISHED, STEP_UNREACHABLE,
     * EVENT_NOT_AWAITED, AMBIGUOUS_EVENT, INBOX_FULL.
     * </pre>
     */
    public dev.perdure.v1.ResumeResponse resume(dev.perdure.v1.ResumeRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getResumeMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Arms a durable timer that ends a step with the event `timeout`, never before delay_ms have
     * passed.
     * If the step waits, runs or backs off when the timer fires, it takes its `timeout` transition.
     * The result of a running attempt is rejected from then on. If the step has finished or has not
     * started, the firing is recorded as unused and has no other effect.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED, STEP_NOT_FOUND,
     * STEP_FINISHED, STEP_UNREACHABLE, STEP_HAS_NO_TIMEOUT, TOO_MANY_TIMERS.
     * </pre>
     */
    public dev.perdure.v1.ScheduleResumeResponse scheduleResume(dev.perdure.v1.ScheduleResumeRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getScheduleResumeMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service RunnerService.
   * <pre>
   * Starts, resumes and times instances. Once a method returns OK, its effect is stored durably.
   * You can send every call again with its request_id. It takes effect at most once, and a repeat
   * returns the first response. Rejections are not remembered. Any method of the API can also fail
   * with OVERLOADED, DATABASE_UNAVAILABLE or SHUTTING_DOWN, and a mutating one with COMMIT_UNKNOWN.
   * The comments list further errors only. See ErrorReason.
   * </pre>
   */
  public static final class RunnerServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<RunnerServiceBlockingStub> {
    private RunnerServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RunnerServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RunnerServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores a new instance of a workflow and starts running it, at once or after start_delay_ms.
     * Errors, checked in this order: INVALID_FIELD, PAYLOAD_TOO_LARGE; REQUEST_ID_REUSED;
     * WORKFLOW_NOT_FOUND; INSTANCE_ALREADY_EXISTS; BUSINESS_KEY_IN_USE.
     * </pre>
     */
    public dev.perdure.v1.StartInstanceResponse startInstance(dev.perdure.v1.StartInstanceRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getStartInstanceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Delivers an external event to the step that waits for it, and continues the instance.
     * If one waiting step accepts the event, it is delivered. If none waits, but a step that accepts
     * it runs or backs off, the event is buffered for that step. If such a step can only be reached
     * later, the call fails with EVENT_NOT_AWAITED, or, with `buffer`, the event is kept in the
     * instance's inbox. If `step_ref` names a step, these rules apply to that step only:
     * EVENT_NEVER_ACCEPTED if it never accepts the event, STEP_FINISHED if it has ended or was
     * skipped, STEP_UNREACHABLE if it will never start.
     * Errors: INVALID_FIELD, PAYLOAD_TOO_LARGE, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND,
     * INSTANCE_ENDED, STEP_NOT_FOUND, EVENT_NEVER_ACCEPTED, STEP_FINISHED, STEP_UNREACHABLE,
     * EVENT_NOT_AWAITED, AMBIGUOUS_EVENT, INBOX_FULL.
     * </pre>
     */
    public dev.perdure.v1.ResumeResponse resume(dev.perdure.v1.ResumeRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getResumeMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Arms a durable timer that ends a step with the event `timeout`, never before delay_ms have
     * passed.
     * If the step waits, runs or backs off when the timer fires, it takes its `timeout` transition.
     * The result of a running attempt is rejected from then on. If the step has finished or has not
     * started, the firing is recorded as unused and has no other effect.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED, STEP_NOT_FOUND,
     * STEP_FINISHED, STEP_UNREACHABLE, STEP_HAS_NO_TIMEOUT, TOO_MANY_TIMERS.
     * </pre>
     */
    public dev.perdure.v1.ScheduleResumeResponse scheduleResume(dev.perdure.v1.ScheduleResumeRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getScheduleResumeMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service RunnerService.
   * <pre>
   * Starts, resumes and times instances. Once a method returns OK, its effect is stored durably.
   * You can send every call again with its request_id. It takes effect at most once, and a repeat
   * returns the first response. Rejections are not remembered. Any method of the API can also fail
   * with OVERLOADED, DATABASE_UNAVAILABLE or SHUTTING_DOWN, and a mutating one with COMMIT_UNKNOWN.
   * The comments list further errors only. See ErrorReason.
   * </pre>
   */
  public static final class RunnerServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<RunnerServiceFutureStub> {
    private RunnerServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RunnerServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RunnerServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores a new instance of a workflow and starts running it, at once or after start_delay_ms.
     * Errors, checked in this order: INVALID_FIELD, PAYLOAD_TOO_LARGE; REQUEST_ID_REUSED;
     * WORKFLOW_NOT_FOUND; INSTANCE_ALREADY_EXISTS; BUSINESS_KEY_IN_USE.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.StartInstanceResponse> startInstance(
        dev.perdure.v1.StartInstanceRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getStartInstanceMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Delivers an external event to the step that waits for it, and continues the instance.
     * If one waiting step accepts the event, it is delivered. If none waits, but a step that accepts
     * it runs or backs off, the event is buffered for that step. If such a step can only be reached
     * later, the call fails with EVENT_NOT_AWAITED, or, with `buffer`, the event is kept in the
     * instance's inbox. If `step_ref` names a step, these rules apply to that step only:
     * EVENT_NEVER_ACCEPTED if it never accepts the event, STEP_FINISHED if it has ended or was
     * skipped, STEP_UNREACHABLE if it will never start.
     * Errors: INVALID_FIELD, PAYLOAD_TOO_LARGE, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND,
     * INSTANCE_ENDED, STEP_NOT_FOUND, EVENT_NEVER_ACCEPTED, STEP_FINISHED, STEP_UNREACHABLE,
     * EVENT_NOT_AWAITED, AMBIGUOUS_EVENT, INBOX_FULL.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.ResumeResponse> resume(
        dev.perdure.v1.ResumeRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getResumeMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Arms a durable timer that ends a step with the event `timeout`, never before delay_ms have
     * passed.
     * If the step waits, runs or backs off when the timer fires, it takes its `timeout` transition.
     * The result of a running attempt is rejected from then on. If the step has finished or has not
     * started, the firing is recorded as unused and has no other effect.
     * Errors: INVALID_FIELD, REQUEST_ID_REUSED, INSTANCE_NOT_FOUND, INSTANCE_ENDED, STEP_NOT_FOUND,
     * STEP_FINISHED, STEP_UNREACHABLE, STEP_HAS_NO_TIMEOUT, TOO_MANY_TIMERS.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.perdure.v1.ScheduleResumeResponse> scheduleResume(
        dev.perdure.v1.ScheduleResumeRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getScheduleResumeMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_START_INSTANCE = 0;
  private static final int METHODID_RESUME = 1;
  private static final int METHODID_SCHEDULE_RESUME = 2;

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
        case METHODID_START_INSTANCE:
          serviceImpl.startInstance((dev.perdure.v1.StartInstanceRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.StartInstanceResponse>) responseObserver);
          break;
        case METHODID_RESUME:
          serviceImpl.resume((dev.perdure.v1.ResumeRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.ResumeResponse>) responseObserver);
          break;
        case METHODID_SCHEDULE_RESUME:
          serviceImpl.scheduleResume((dev.perdure.v1.ScheduleResumeRequest) request,
              (io.grpc.stub.StreamObserver<dev.perdure.v1.ScheduleResumeResponse>) responseObserver);
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
          getStartInstanceMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.StartInstanceRequest,
              dev.perdure.v1.StartInstanceResponse>(
                service, METHODID_START_INSTANCE)))
        .addMethod(
          getResumeMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.ResumeRequest,
              dev.perdure.v1.ResumeResponse>(
                service, METHODID_RESUME)))
        .addMethod(
          getScheduleResumeMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.perdure.v1.ScheduleResumeRequest,
              dev.perdure.v1.ScheduleResumeResponse>(
                service, METHODID_SCHEDULE_RESUME)))
        .build();
  }

  private static abstract class RunnerServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    RunnerServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.perdure.v1.RunnerServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("RunnerService");
    }
  }

  private static final class RunnerServiceFileDescriptorSupplier
      extends RunnerServiceBaseDescriptorSupplier {
    RunnerServiceFileDescriptorSupplier() {}
  }

  private static final class RunnerServiceMethodDescriptorSupplier
      extends RunnerServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    RunnerServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (RunnerServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new RunnerServiceFileDescriptorSupplier())
              .addMethod(getStartInstanceMethod())
              .addMethod(getResumeMethod())
              .addMethod(getScheduleResumeMethod())
              .build();
        }
      }
    }
    return result;
  }
}
