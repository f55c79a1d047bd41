"""Requests, results and errors of the clients, over a real channel to a server with scripted answers."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

import perdure
from perdure import errors
from perdure.client import (
    NO_RETRIES,
    AsyncClient,
    CallRetryPolicy,
    Client,
    ConflictPolicy,
    Disposition,
    InstanceState,
    Resumed,
    Runner,
    ScheduledResume,
    StartedInstance,
    StepState,
    TimerKind,
    TlsOptions,
    _calls,
    _channel,
)
from perdure.client._channel import is_loopback
from perdure.client._retry import STREAM_SECONDS_MAX, Attempts
from perdure.v1 import (
    common_pb2,
    errors_pb2,
    instance_service_pb2,
    runner_service_pb2,
    server_service_pb2,
    timer_service_pb2,
    workflow_service_pb2,
)
from perdure_server.api.limits import Limits
from support.stub_server import HANG, ErrorResponse, StubServer

STARTED = runner_service_pb2.StartInstanceResponse(instance_id="i1", created=True, version=2, revision=3)
RESUMED = runner_service_pb2.ResumeResponse(
    disposition=runner_service_pb2.DISPOSITION_BUFFERED, step_ref="", revision=4
)
QUICK = CallRetryPolicy(initial_backoff=0.001, max_backoff=0.005)
UNAVAILABLE = ErrorResponse(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", retry_after_ms=1)


@pytest.fixture
async def client(server: StubServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.target, timeout=10, retries=QUICK) as client:
        yield client


# --- start, resume, schedule -------------------------------------------------------------------------------------


async def test_start_instance_sends_every_option_and_returns_the_result(
    server: StubServer, client: AsyncClient
) -> None:
    server.answers["StartInstance"].append(STARTED)

    started = await client.start_instance(
        "order",
        {"items": [1]},
        instance_id="i1",
        version=2,
        business_key="k",
        conflict_policy=ConflictPolicy.USE_EXISTING,
        start_delay=timedelta(seconds=1.5),
        labels={"team": "a"},
        request_id="r1",
    )

    assert started == StartedInstance("i1", True, 2, 3)
    [request] = server.requests["StartInstance"]
    assert request == runner_service_pb2.StartInstanceRequest(
        workflow="order",
        context=common_pb2.Payload(json='{"items":[1]}'),
        opts=runner_service_pb2.StartOptions(
            request_id="r1",
            instance_id="i1",
            version=2,
            business_key="k",
            conflict_policy=runner_service_pb2.CONFLICT_POLICY_USE_EXISTING,
            start_delay_ms=1500,
            labels={"team": "a"},
        ),
    )


async def test_resume_sends_the_payload_as_json(server: StubServer, client: AsyncClient) -> None:
    server.answers["Resume"].append(RESUMED)

    resumed = await client.resume("i1", "approved", [1, "é"], step_ref="approval", buffer=True)

    assert resumed == Resumed(Disposition.BUFFERED, "", 4)
    [request] = server.requests["Resume"]
    assert request.opts.payload.json == '[1,"é"]'
    assert (request.event, request.opts.step_ref, request.opts.buffer) == ("approved", "approval", True)


async def test_a_resume_without_a_payload_sends_none(server: StubServer, client: AsyncClient) -> None:
    server.answers["Resume"].append(RESUMED)

    await client.resume("i1", "approved")

    assert not server.requests["Resume"][0].opts.HasField("payload")


async def test_schedule_resume_returns_the_due_time_in_utc(server: StubServer, client: AsyncClient) -> None:
    answer = runner_service_pb2.ScheduleResumeResponse(reference="i1.5", revision=5)
    answer.due_time.FromMilliseconds(1_700_000_000_123)
    server.answers["ScheduleResume"].append(answer)

    scheduled = await client.schedule_resume("i1", "approval", 60_000)

    assert scheduled == ScheduledResume("i1.5", datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC), 5)
    assert server.requests["ScheduleResume"][0].delay_ms == 60_000


def test_an_async_client_is_a_runner() -> None:
    assert isinstance(AsyncClient(), Runner)


async def test_metadata_is_sent_with_every_call(server: StubServer) -> None:
    server.answers["StartInstance"].append(STARTED)
    async with AsyncClient(server.target, metadata={"Authorization": "Bearer x"}) as client:
        await client.start_instance("order")

    assert ("authorization", "Bearer x") in server.metadata


# --- request ids and retries -------------------------------------------------------------------------------------

MUTATING: list[tuple[str, Any, Callable[[AsyncClient], Awaitable[object]]]] = [
    ("StartInstance", STARTED, lambda c: c.start_instance("order")),
    ("Resume", RESUMED, lambda c: c.resume("i1", "approved")),
    (
        "ScheduleResume",
        runner_service_pb2.ScheduleResumeResponse(),
        lambda c: c.schedule_resume("i1", "a", 1),
    ),
    ("CancelInstance", instance_service_pb2.CancelInstanceResponse(), lambda c: c.cancel_instance("i1")),
    ("RetryInstance", instance_service_pb2.RetryInstanceResponse(), lambda c: c.retry_instance("i1")),
    ("CancelTimer", timer_service_pb2.CancelTimerResponse(), lambda c: c.cancel_timer("i1.3")),
    ("FireTimer", timer_service_pb2.FireTimerResponse(), lambda c: c.fire_timer("i1.3")),
]


@pytest.mark.parametrize(("method", "answer", "call"), MUTATING, ids=[name for name, _, _ in MUTATING])
async def test_a_retry_has_the_same_request_id(
    server: StubServer,
    client: AsyncClient,
    method: str,
    answer: Any,
    call: Callable[[AsyncClient], Awaitable[object]],
) -> None:
    server.answers[method] += [
        UNAVAILABLE,
        ErrorResponse(grpc.StatusCode.UNAVAILABLE, "COMMIT_UNKNOWN"),
        answer,
    ]

    await call(client)

    first, second, third = (request.opts.request_id for request in server.requests[method])
    assert first == second == third
    assert len(first) == 32


async def test_two_calls_have_different_request_ids(server: StubServer, client: AsyncClient) -> None:
    server.answers["StartInstance"].append(STARTED)

    await asyncio.gather(client.start_instance("order"), client.start_instance("order"))

    assert len({request.opts.request_id for request in server.requests["StartInstance"]}) == 2


@pytest.mark.parametrize(
    "response",
    [
        ErrorResponse(grpc.StatusCode.UNAVAILABLE),
        ErrorResponse(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"),
        ErrorResponse(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after_ms=1),
        ErrorResponse(grpc.StatusCode.CANCELLED),
    ],
    ids=lambda response: response.reason or response.code.name,
)
async def test_a_temporary_error_is_retried(
    server: StubServer, client: AsyncClient, response: ErrorResponse
) -> None:
    server.answers["StartInstance"] += [response, STARTED]

    assert (await client.start_instance("order")).instance_id == "i1"


@pytest.mark.parametrize(
    "response",
    [
        ErrorResponse(grpc.StatusCode.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE"),
        ErrorResponse(grpc.StatusCode.RESOURCE_EXHAUSTED),
        ErrorResponse(grpc.StatusCode.FAILED_PRECONDITION, "INSTANCE_ENDED"),
        ErrorResponse(grpc.StatusCode.INTERNAL),
    ],
    ids=lambda response: response.reason or response.code.name,
)
async def test_a_permanent_error_is_not_retried(
    server: StubServer, client: AsyncClient, response: ErrorResponse
) -> None:
    server.answers["Resume"].append(response)

    with pytest.raises(errors.PerdureError):
        await client.resume("i1", "approved")

    assert len(server.requests["Resume"]) == 1


async def test_the_last_error_is_raised_if_no_time_is_left_for_a_retry(
    server: StubServer, client: AsyncClient
) -> None:
    server.answers["Resume"].append(
        ErrorResponse(grpc.StatusCode.UNAVAILABLE, "COMMIT_UNKNOWN", retry_after_ms=60_000)
    )

    with pytest.raises(errors.CommitUnknownError) as caught:
        await client.resume("i1", "approved", request_id="r7")

    assert caught.value.retry_after == 60
    assert caught.value.request_id == "r7"
    assert len(server.requests["Resume"]) == 1


async def test_a_missing_response_raises_timeout_error(server: StubServer, client: AsyncClient) -> None:
    server.answers["Resume"].append(HANG)

    with pytest.raises(TimeoutError) as caught:
        await client.resume("i1", "approved", timeout=0.05)

    assert isinstance(caught.value, errors.DeadlineExceededError)
    assert caught.value.request_id


async def test_an_unreachable_server_is_unavailable() -> None:
    async with AsyncClient("127.0.0.1:1", timeout=5, retries=NO_RETRIES) as client:
        with pytest.raises(errors.UnavailableError):
            await client.get_instance("i1")


async def test_a_call_survives_a_restart_of_the_server() -> None:
    async with StubServer() as first:
        port = int(first.target.rpartition(":")[2])
        first.answers["StartInstance"].append(STARTED)
        client = AsyncClient(first.target, timeout=20, retries=QUICK)
        await client.start_instance("order")
    call = asyncio.create_task(client.start_instance("order"))
    async with client, StubServer(port) as second:
        second.answers["StartInstance"].append(STARTED)

        assert (await call).instance_id == "i1"


def test_pauses_grow_to_the_maximum_unless_the_server_asks_for_more() -> None:
    attempts = Attempts(CallRetryPolicy(), 100, clock=lambda: 0.0, rng=lambda: 0.0)
    passing = errors.UnavailableError("no")

    pauses = [attempts.pause_after(passing) for _ in range(8)]

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert attempts.pause_after(errors.OverloadedError("no", retry_after=9.0)) == 9.0


def test_a_pause_is_shortened_at_random_by_up_to_half() -> None:
    attempts = Attempts(CallRetryPolicy(), 100, clock=lambda: 0.0, rng=lambda: 1.0)

    assert attempts.pause_after(errors.UnavailableError("no")) == 0.05


# --- errors -------------------------------------------------------------------------------------------------------


def test_every_reason_of_the_api_has_its_own_exception() -> None:
    of_the_api = {
        name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
    }

    assert of_the_api - {"UNSPECIFIED"} == errors.REASONS


async def test_an_error_contains_everything_that_the_server_sent(
    server: StubServer, client: AsyncClient
) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="event", description="is not a name")
    server.answers["Resume"] += [
        ErrorResponse(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "1 field is wrong",
            details=(error_details_pb2.BadRequest(field_violations=[violation]),),
        ),
        ErrorResponse(
            grpc.StatusCode.NOT_FOUND,
            "INSTANCE_NOT_FOUND",
            details=(error_details_pb2.ResourceInfo(resource_type="instance", resource_name="i9"),),
        ),
        ErrorResponse(grpc.StatusCode.FAILED_PRECONDITION, "AMBIGUOUS_EVENT", metadata={"step_refs": "a,b"}),
    ]

    with pytest.raises(errors.InvalidFieldError) as invalid:
        await client.resume("i9", "?")
    with pytest.raises(errors.InstanceNotFoundError) as unknown:
        await client.resume("i9", "approved")
    with pytest.raises(errors.AmbiguousEventError) as ambiguous:
        await client.resume("i9", "approved")

    assert invalid.value.violations == (errors.FieldViolation("event", "is not a name"),)
    assert "event: is not a name" in str(invalid.value)
    assert unknown.value.resource == errors.Resource("instance", "i9")
    assert unknown.value.instance_id == "i9"
    assert ambiguous.value.step_refs == ("a", "b")


async def test_detail_and_hint_of_the_server_are_fields_of_the_error(
    server: StubServer, client: AsyncClient
) -> None:
    server.answers["Resume"].append(
        ErrorResponse(
            grpc.StatusCode.FAILED_PRECONDITION,
            "EVENT_NEVER_ACCEPTED",
            "event 'approved' is not accepted by instance 'i1'",
            metadata={
                "event": "approved",
                "detail": "the remaining steps accept: cancelled",
                "hint": "show the instance with GetInstance",
            },
        )
    )

    with pytest.raises(errors.EventNeverAcceptedError) as caught:
        await client.resume("i1", "approved")

    error = caught.value
    assert error.message == "event 'approved' is not accepted by instance 'i1'"
    assert error.detail == "the remaining steps accept: cancelled"
    assert error.hint == "show the instance with GetInstance"
    assert error.metadata == {"event": "approved"}
    assert str(error).splitlines() == [
        "event 'approved' is not accepted by instance 'i1'",
        "detail: the remaining steps accept: cancelled",
        "hint: show the instance with GetInstance",
    ]
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.detail, copy.hint) == (str(error), error.detail, error.hint)


async def test_an_invalid_workflow_of_the_server_has_violations_and_no_issues(
    server: StubServer, client: AsyncClient
) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="steps.a", description="is unreachable")
    server.answers["Resume"].append(
        ErrorResponse(
            grpc.StatusCode.INVALID_ARGUMENT,
            "WORKFLOW_INVALID",
            "the workflow has 1 issue",
            details=(error_details_pb2.BadRequest(field_violations=[violation]),),
        )
    )

    with pytest.raises(perdure.WorkflowInvalidError) as caught:
        await client.resume("i1", "approved")

    assert type(caught.value) is errors.WorkflowInvalidError
    assert caught.value.violations == (errors.FieldViolation("steps.a", "is unreachable"),)
    assert caught.value.issues == ()


async def test_an_error_without_a_class_keeps_its_status(server: StubServer, client: AsyncClient) -> None:
    server.answers["Resume"].append(ErrorResponse(grpc.StatusCode.DATA_LOSS))

    with pytest.raises(errors.PerdureError) as caught:
        await client.resume("i1", "approved")

    assert caught.value.code == "DATA_LOSS"


async def test_an_unknown_reason_raises_the_class_of_its_status(
    server: StubServer, client: AsyncClient
) -> None:
    server.answers["Resume"].append(ErrorResponse(grpc.StatusCode.FAILED_PRECONDITION, "MOON_IS_FULL"))

    with pytest.raises(errors.FailedPreconditionError) as caught:
        await client.resume("i1", "approved")

    assert caught.value.reason == "MOON_IS_FULL"


# --- payloads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [2**63 - 1, -(2**63), 2**64 + 1, "\u0001é\U0001f600", [None, True, 0.1], {"ключ": {"": []}}],
    ids=repr,
)
async def test_a_value_is_returned_exactly_as_it_was_sent(
    server: StubServer, client: AsyncClient, value: object
) -> None:
    server.answers["StartInstance"].append(STARTED)
    await client.start_instance("order", {"value": value})
    sent = server.requests["StartInstance"][0].context
    server.answers["GetInstance"].append(
        instance_service_pb2.GetInstanceResponse(instance=instance_service_pb2.Instance(input=sent))
    )

    assert (await client.get_instance("i1")).input == {"value": value}


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [1, float("nan")]}, "context.a[1]: JSON cannot represent nan"),
        ({"a": float("inf")}, "context.a: JSON cannot represent inf"),
        ({"a": {1: 2}}, "context.a: has the key 1"),
        ({"a": {1, 2}}, "context.a: JSON cannot represent a set"),
        ({"a": "\ud800"}, "context.a: contains a lone surrogate"),
        ({"a": CYCLE}, "nested more than 100 levels deep"),
        ([1], "context: must be a JSON object"),
        ("{}", "context: must be a JSON object"),
    ],
)
async def test_a_value_that_is_not_json_is_rejected_with_its_place(value: Any, problem: str) -> None:
    with pytest.raises(errors.InvalidFieldError) as caught:
        await AsyncClient().start_instance("order", value)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda c: c.schedule_resume("i1", "a", 2**63), "delay_ms"),
        (lambda c: c.schedule_resume("i1", "a", "1h"), "delay_ms"),
        (lambda c: c.start_instance("order", version=-1), "opts.version"),
        (lambda c: c.start_instance("order", start_delay="soon"), "start_delay"),
        (lambda c: c.start_instance("order", start_delay=True), "start_delay"),
        (lambda c: c.start_instance("order", start_delay=float("nan")), "start_delay"),
        (lambda c: c.resume("\ud800", "a"), "instance_id"),
    ],
)
async def test_an_invalid_field_is_named(
    call: Callable[[AsyncClient], Awaitable[object]], field: str
) -> None:
    with pytest.raises(errors.InvalidFieldError) as caught:
        await call(AsyncClient())

    assert [violation.field for violation in caught.value.violations] == [field]


# --- the other RPCs ----------------------------------------------------------------------------------------------


def test_the_clients_know_every_method_of_the_api() -> None:
    modules = (
        runner_service_pb2,
        instance_service_pb2,
        timer_service_pb2,
        workflow_service_pb2,
        server_service_pb2,
    )
    services = [s for module in modules for s in module.DESCRIPTOR.services_by_name.values()]
    of_the_api = {
        (f"/{service.full_name}/{method.name}", method.output_type.full_name)
        for service in services
        for method in service.methods
    }

    assert {(m.path, m.response.DESCRIPTOR.full_name) for m in _calls.METHODS} == of_the_api


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def shape(cls: type) -> dict[str, list[tuple[str, object]]]:
        methods = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
        return {
            name: [(p.name, p.default) for p in inspect.signature(value).parameters.values()]
            for name, value in methods.items()
        }

    assert shape(AsyncClient) == shape(Client)


async def test_an_instance_is_returned_as_values(server: StubServer, client: AsyncClient) -> None:
    instance = instance_service_pb2.Instance(
        instance_id="i1",
        workflow="order",
        version=1,
        state=instance_service_pb2.INSTANCE_STATE_WAITING,
        revision=7,
        input=common_pb2.Payload(json='{"n":1}'),
        outputs={"a": common_pb2.Payload(json="[]"), "b": common_pb2.Payload()},
        active_steps=[
            instance_service_pb2.ActiveStep(
                step_ref="c", state=instance_service_pb2.STEP_STATE_WAITING, events=["x", "y"]
            )
        ],
    )
    instance.create_time.FromMilliseconds(1)
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=instance))

    found = await client.get_instance("i1")

    assert found.state is InstanceState.WAITING
    assert found.input == {"n": 1}
    assert found.outputs == {"a": [], "b": None}
    assert found.active_steps[0].state is StepState.WAITING
    assert found.active_steps[0].events == ("x", "y")
    assert found.create_time == datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
    assert found.end_time is None
    assert found.error is None


async def test_a_state_of_a_newer_server_is_unknown(server: StubServer, client: AsyncClient) -> None:
    instance = instance_service_pb2.Instance(state=7)  # type: ignore[arg-type]
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=instance))

    assert (await client.get_instance("i1")).state is InstanceState.UNKNOWN


async def test_a_list_fetches_all_pages(server: StubServer, client: AsyncClient) -> None:
    def page(token: str, *ids: str) -> instance_service_pb2.ListInstancesResponse:
        return instance_service_pb2.ListInstancesResponse(
            instances=[instance_service_pb2.InstanceSummary(instance_id=i) for i in ids],
            next_page_token=token,
        )

    server.answers["ListInstances"] += [page("t", "i3", "i2"), page("", "i1")]

    listed = client.list_instances(states=["waiting", InstanceState.FAILED], workflow="order", page_size=2)

    assert [item.instance_id async for item in listed] == ["i3", "i2", "i1"]
    first, second = server.requests["ListInstances"]
    assert (first.page_token, second.page_token) == ("", "t")
    assert list(first.states) == list(second.states) == [3, 5]
    assert second.workflow == "order"


async def test_an_unknown_state_is_rejected_with_the_list_of_states(client: AsyncClient) -> None:
    with pytest.raises(
        errors.InvalidFieldError, match="'asleep' is not a state; use one of PENDING, RUNNING"
    ):
        await anext(client.list_instances(states=["asleep"]))


async def test_timers_are_returned_as_values(server: StubServer, client: AsyncClient) -> None:
    timer = timer_service_pb2.Timer(reference="i1.3", kind=common_pb2.TIMER_KIND_SLEEP, step_ref="nap")
    server.answers["GetTimer"].append(timer_service_pb2.GetTimerResponse(timer=timer))
    server.answers["ListTimers"].append(timer_service_pb2.ListTimersResponse(timers=[timer]))
    server.answers["FireTimer"].append(timer_service_pb2.FireTimerResponse(revision=9, used=True))

    found = await client.get_timer("i1.3")

    assert (found.kind, found.step_ref) == (TimerKind.SLEEP, "nap")
    assert [listed async for listed in client.list_timers()] == [found]
    assert (await client.fire_timer("i1.3")).used


async def test_a_workflow_is_returned_with_its_graph(server: StubServer, client: AsyncClient) -> None:
    workflow = workflow_service_pb2.Workflow(name="order", version=1, start="a")
    task = workflow.steps.add(step_ref="a", kind=common_pb2.STEP_KIND_TASK)
    task.transitions.add(event="done", targets=["b", "end"])
    task.retry.max_attempts = 3
    task.retry.initial_backoff.FromMilliseconds(200)
    nap = workflow.steps.add(step_ref="b", kind=common_pb2.STEP_KIND_SLEEP)
    nap.join = workflow_service_pb2.JOIN_RULE_ALL
    nap.sleep.FromMilliseconds(500)
    server.answers["GetWorkflow"].append(workflow_service_pb2.GetWorkflowResponse(workflow=workflow))

    graph = (await client.get_workflow("order")).graph

    assert list(graph.steps) == ["a", "b"]
    assert graph.steps["a"].on == {"done": ("b", "end")}
    assert graph.steps["a"].retry is not None
    assert graph.steps["a"].retry.initial_ms == 200
    assert graph.steps["b"].join is perdure.Join.ALL
    assert graph.steps["b"].sleep_ms == 500


def test_the_keepalive_and_the_sizes_match_the_limits_of_the_server() -> None:
    limits = Limits()

    assert 2 * limits.ping_interval_ms_min < _channel.KEEPALIVE_MS
    assert limits.message_bytes_max <= _channel.RECEIVE_BYTES_MAX
    assert limits.watch_seconds > STREAM_SECONDS_MAX


# --- the clients themselves --------------------------------------------------------------------------------------


async def test_many_threads_share_a_blocking_client(server: StubServer) -> None:
    server.answers["StartInstance"] += [UNAVAILABLE, STARTED]
    with Client(server.target, retries=QUICK) as client:
        started = await asyncio.gather(
            *(asyncio.to_thread(client.start_instance, "order", {"n": n}) for n in range(8))
        )

    assert {answer.instance_id for answer in started} == {"i1"}
    assert len({request.opts.request_id for request in server.requests["StartInstance"]}) == 8


async def test_a_blocking_client_lists_and_raises_like_the_async_one(server: StubServer) -> None:
    timers = [timer_service_pb2.Timer(reference="i1.3")]
    server.answers["ListTimers"] += [
        timer_service_pb2.ListTimersResponse(timers=timers, next_page_token="t"),
        timer_service_pb2.ListTimersResponse(timers=timers),
    ]
    server.answers["GetTimer"].append(ErrorResponse(grpc.StatusCode.NOT_FOUND, "TIMER_NOT_FOUND"))

    def use() -> list[str]:
        with Client(server.target) as client:
            with pytest.raises(errors.TimerNotFoundError):
                client.get_timer("i1.3")
            return [timer.reference for timer in client.list_timers()]

    assert await asyncio.to_thread(use) == ["i1.3", "i1.3"]


async def test_a_closed_client_raises_runtime_error(server: StubServer) -> None:
    client = AsyncClient(server.target)
    await client.close()
    await client.close()
    blocking = Client(server.target)
    blocking.close()

    with pytest.raises(RuntimeError, match="closed"):
        await client.get_instance("i1")
    with pytest.raises(RuntimeError, match="closed"):
        blocking.get_instance("i1")


async def test_closing_the_client_ends_a_call_with_runtime_error(server: StubServer) -> None:
    server.answers["GetInstance"].append(HANG)
    client = AsyncClient(server.target)
    call = asyncio.create_task(client.get_instance("i1"))
    await server.asked("GetInstance")

    await client.close()

    with pytest.raises(RuntimeError, match="closed during the call"):
        await call


async def test_a_cancelled_task_cancels_its_call(server: StubServer, client: AsyncClient) -> None:
    server.answers["GetInstance"].append(HANG)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.get_instance("i1")


async def test_an_async_client_rejects_a_second_loop(server: StubServer, client: AsyncClient) -> None:
    server.answers["StartInstance"].append(STARTED)
    await client.start_instance("order")
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(client.get_instance("i1"))
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)

    assert "one per loop" in str(raised[0])


def test_the_repr_of_a_client_shows_no_secret() -> None:
    tls = TlsOptions(ca=b"CA", cert=b"CERT", key=b"SECRET")

    assert repr(Client("h:1", tls=tls, timeout=5)) == "Client('h:1', tls=True, timeout=5)"
    assert "SECRET" not in repr(tls)


def test_a_client_certificate_without_its_key_is_rejected() -> None:
    with pytest.raises(ValueError, match="both cert= and key="):
        TlsOptions(cert=b"CERT")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:7420", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("unix:/tmp/x", True),
        ("10.0.0.1:7420", False),
        ("perdure.example:443", False),
    ],
)
def test_a_proxy_is_not_used_for_loopback(target: str, expected: bool) -> None:
    assert is_loopback(target) is expected


def test_an_error_that_lists_all_violations_does_not_count_them() -> None:
    violations = [errors.FieldViolation(field, f"{field} is bad") for field in ("a", "b", "c")]
    error = errors.InvalidFieldError("a: a is bad (and 2 more)", violations=violations)

    assert str(error) == "a: a is bad; b: b is bad; c: c is bad"
