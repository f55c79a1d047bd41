"""Arguments that a client rejects before it sends anything, and limits that mean no limit."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import grpc
import pytest

from perdure import AsyncClient, Client, errors
from perdure.client import CallRetryPolicy, RawJson
from perdure.client._arguments import SECONDS_MAX
from perdure.client._retry import PAUSE_SECONDS_MAX, Attempts
from perdure.model.payloads import decode, encode
from perdure.v1 import common_pb2, instance_service_pb2, runner_service_pb2
from support.stub_server import HANG, ErrorResponse, StubServer

ENDLESS: Final = [math.inf, 1e300, 2.0**63, 2**63, 10**400, SECONDS_MAX * 1.5]
INVALID: Final = [
    -(10**5_000),
    0,
    0.0,
    -0.0,
    -1,
    -math.inf,
    math.nan,
    True,
    "30s",
    timedelta(seconds=1),
    b"1",
]

STARTED: Final = runner_service_pb2.StartInstanceResponse(instance_id="i1", revision=1)
GOT: Final = instance_service_pb2.GetInstanceResponse(
    instance=instance_service_pb2.Instance(input=common_pb2.Payload(json="{}"))
)
SNAPSHOT: Final = instance_service_pb2.WatchInstanceResponse(snapshot=GOT.instance)
END: Final = instance_service_pb2.WatchInstanceResponse(
    end=instance_service_pb2.WatchEnd(revision=0, reason=instance_service_pb2.WATCH_END_REASON_INSTANCE_ENDED)
)


def blamed(error: errors.InvalidFieldError) -> list[str]:
    return [violation.field for violation in error.violations]


async def outcome_of(call: Callable[[], Any]) -> Any:
    """Call a method of either client."""
    outcome = call()
    return await outcome if inspect.isawaitable(outcome) else outcome


@pytest.mark.parametrize("timeout", ENDLESS, ids=repr)
async def test_an_endless_timeout_is_no_deadline(server: StubServer, timeout: float) -> None:
    server.answers["StartInstance"] += [STARTED]
    server.answers["WatchInstance"] += [[SNAPSHOT, END]]
    server.answers["GetInstance"] += [GOT]

    async with AsyncClient(server.target, timeout=timeout) as client:
        await client.start_instance("order")
        await client.start_instance("order", timeout=timeout)
        watched = [event async for event in client.watch_instance("i1", timeout=timeout, outage=timeout)]
    with Client(server.target, timeout=timeout) as blocking:
        await asyncio.to_thread(blocking.start_instance, "order", timeout=timeout)
        await asyncio.to_thread(lambda: list(blocking.watch_instance("i1", timeout=timeout, outage=timeout)))

    assert len(watched) == 2


async def test_without_a_limit_the_deadline_of_the_server_ends_nothing(server: StubServer) -> None:
    server.answers["StartInstance"] += [ErrorResponse(grpc.StatusCode.DEADLINE_EXCEEDED), STARTED]
    quick = CallRetryPolicy(initial_backoff=0.001, max_backoff=0.001)

    async with AsyncClient(server.target, timeout=math.inf, retries=quick) as client:
        started = await client.start_instance("order")

    assert started.instance_id == "i1"


@pytest.mark.parametrize(
    "value", INVALID, ids=lambda value: f"{value}"[:20] if value != INVALID[0] else "huge"
)
@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_a_limit_that_is_no_time_is_rejected_by_name(kind: Any, value: Any) -> None:
    client = kind("127.0.0.1:1")
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("timeout", lambda: kind("127.0.0.1:1", timeout=value)),
        ("timeout", lambda: client.get_instance("i1", timeout=value)),
        ("timeout", lambda: client.check_health(timeout=value)),
        ("timeout", lambda: client.watch_instance("i1", timeout=value)),
        ("outage", lambda: client.watch_instance("i1", outage=value)),
        ("timeout", lambda: client.wait_for_end("i1", timeout=value)),
    ]
    for name, call in calls:
        with pytest.raises(errors.InvalidFieldError, match=f"{name}: must be ") as caught:
            await outcome_of(call)
        assert blamed(caught.value) == [name]
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"initial_backoff": 0}, "retries.initial_backoff"),
        ({"initial_backoff": -1}, "retries.initial_backoff"),
        ({"initial_backoff": math.nan}, "retries.initial_backoff"),
        ({"initial_backoff": math.inf}, "retries.initial_backoff"),
        ({"max_backoff": 0}, "retries.max_backoff"),
        ({"max_backoff": 1e300}, "retries.max_backoff"),
        ({"max_backoff": "5s"}, "retries.max_backoff"),
        ({"multiplier": 0.5}, "retries.multiplier"),
        ({"multiplier": math.nan}, "retries.multiplier"),
        ({"multiplier": math.inf}, "retries.multiplier"),
        ({"multiplier": None}, "retries.multiplier"),
        ({"max_attempts": -1}, "retries.max_attempts"),
        ({"max_attempts": 1.5}, "retries.max_attempts"),
        ({"max_attempts": True}, "retries.max_attempts"),
    ],
)
def test_retry_settings_that_cannot_work_are_rejected(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidFieldError) as caught:
        CallRetryPolicy(**settings)

    assert blamed(caught.value) == [field]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"metadata": {"a b": "c"}}, "metadata"),
        ({"metadata": {"k": 5}}, "metadata"),
        ({"metadata": {5: "x"}}, "metadata"),
        ({"metadata": {"k": "a\nb"}}, "metadata"),
        ({"metadata": {"k": "ä"}}, "metadata"),
        ({"metadata": {"k-bin": "x"}}, "metadata"),
        ({"metadata": "abc"}, "metadata"),
        ({"metadata": 5}, "metadata"),
        ({"retries": 5}, "retries"),
        ({"retries": {}}, "retries"),
    ],
)
@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_settings_of_the_wrong_kind_are_rejected_at_once(
    kind: Any, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidFieldError) as caught:
        kind("127.0.0.1:1", **settings)

    assert blamed(caught.value) == [field]


@pytest.mark.parametrize(
    "target", [None, 5, b"127.0.0.1:1", "", "localhost", "127.0.0.1:99999", "127.0.0.1:0"]
)
def test_a_target_that_cannot_be_dialled_is_rejected(target: Any) -> None:
    with Client(target) as client, pytest.raises(ValueError, match="target"):
        client.get_instance("i1")


def test_no_pause_is_longer_than_a_sleep_can_be() -> None:
    attempts = Attempts(
        CallRetryPolicy(max_backoff=SECONDS_MAX, multiplier=1_000), math.inf, chance=lambda: 0.0
    )

    for _ in range(100):
        pause = attempts.pause_after(errors.UnavailableError("no", retry_after=1e11))
        assert pause is not None
        assert 0 < pause <= PAUSE_SECONDS_MAX


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda c: c.start_instance(b"order"), "workflow"),
        (lambda c: c.start_instance(None), "workflow"),
        (lambda c: c.start_instance("order", version=True), "opts.version"),
        (lambda c: c.start_instance("order", version=2**32), "opts.version"),
        (lambda c: c.start_instance("order", version="1"), "opts.version"),
        (lambda c: c.start_instance("order", instance_id=7), "opts.instance_id"),
        (lambda c: c.start_instance("order", business_key="\ud800"), "opts.business_key"),
        (lambda c: c.start_instance("order", conflict_policy="often"), "opts.conflict_policy"),
        (lambda c: c.start_instance("order", conflict_policy=None), "opts.conflict_policy"),
        (lambda c: c.start_instance("order", conflict_policy=10**5_000), "opts.conflict_policy"),
        (lambda c: c.start_instance("order", labels=["a"]), "opts.labels"),
        (lambda c: c.start_instance("order", labels={"a": 1}), "opts.labels['a']"),
        (lambda c: c.start_instance("order", labels={1: "a"}), "opts.labels"),
        (lambda c: c.start_instance("order", labels={"a": "\ud800"}), "opts.labels['a']"),
        (lambda c: c.resume(None, "a"), "instance_id"),
        (lambda c: c.resume("i1", None), "event"),
        (lambda c: c.resume("i1", "a", buffer="yes"), "opts.buffer"),
        (lambda c: c.resume("i1", "a", step_ref=b"a"), "opts.step_ref"),
        (lambda c: c.resume("i1", "a", 10**5_000), "payload"),
        (lambda c: c.resume("i1", "a", b"bytes"), "payload"),
        (lambda c: c.schedule_resume("i1", "a", 1.5), "delay_ms"),
        (lambda c: c.schedule_resume("i1", "a", math.nan), "delay_ms"),
        (lambda c: c.schedule_resume("i1", "a", None), "delay_ms"),
        (lambda c: c.schedule_resume("i1", "a", 10**400), "delay_ms"),
        (lambda c: c.get_instance(None), "instance_id"),
        (lambda c: c.get_instance(b"i1"), "instance_id"),
        (lambda c: c.get_timer(None), "reference"),
        (lambda c: c.get_workflow("order", version=-1), "version"),
        (lambda c: c.cancel_instance("i1", reason=7), "opts.reason"),
        (lambda c: c.cancel_instance("i1", request_id=7), "opts.request_id"),
        (lambda c: anext(c.list_instances(page_size=2**31)), "page_size"),
        (lambda c: anext(c.list_instances(page_size=math.inf)), "page_size"),
        (lambda c: anext(c.list_instances(labels={"a": None})), "labels['a']"),
        (lambda c: anext(c.list_timers(None)), "instance_id"),
        (lambda c: anext(c.list_history("i1", after_revision=2**63)), "after_revision"),
        (lambda c: c.watch_instance("i1", after_revision="1"), "after_revision"),
        (lambda c: c.watch_instance(None), "instance_id"),
    ],
)
async def test_an_argument_of_the_wrong_kind_is_named(call: Callable[[AsyncClient], Any], field: str) -> None:
    client = AsyncClient("127.0.0.1:1")

    with pytest.raises(errors.InvalidFieldError) as caught:
        await outcome_of(lambda: call(client))

    assert blamed(caught.value) == [field]
    assert "<class" not in str(caught.value)


async def test_revision_zero_is_not_the_absence_of_a_revision(server: StubServer) -> None:
    server.answers["WatchInstance"] += [[SNAPSHOT, END]]
    async with AsyncClient(server.target) as client:
        _ = [event async for event in client.watch_instance("i1")]
        _ = [event async for event in client.watch_instance("i1", after_revision=0)]

    absent, zero = server.requests["WatchInstance"]
    assert not absent.HasField("after_revision")
    assert zero.HasField("after_revision")


def test_an_integer_too_long_for_python_crosses_as_text() -> None:
    digits = "1" * 5_000

    assert encode(RawJson(digits), field="payload") == digits
    with pytest.raises(errors.PerdureError, match="raw_json=True"):
        decode(digits)


async def test_a_call_without_an_answer_still_ends_at_its_timeout(server: StubServer) -> None:
    server.answers["StartInstance"] += [HANG]
    async with AsyncClient(server.target) as client:
        with pytest.raises(errors.DeadlineExceededError):
            await client.start_instance("order", timeout=0.05)
