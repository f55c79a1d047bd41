"""Bad input: invalid names, IDs, labels and keys are reported with their fields, all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from google.protobuf.message import Message

from e2e.bad_input.calls import error_of, invalid_fields, resume, schedule, start
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure.v1 import timer_service_pb2 as timers
from perdure.v1 import workflow_service_pb2 as workflows
from support.api_fixture import ApiWorld

BAD_TEXTS: Final = {
    "empty": "",
    "256 bytes": "a" * 256,
    "NUL": "a\0b",
    "newline": "order\n",
    "bidi": "a\u202eb",
    "a path": "../x",
    "SQL": "';--",
    "a space": "a b",
    "another script": "о",
}


def with_request_id(message: type[Message], opts: type[Message], **fields: Any) -> Callable[[str], Message]:
    return lambda value: message(**fields, opts=opts(request_id=value))  # type: ignore[call-arg]


Request = Callable[[str], Message]
NAMED: Final[list[tuple[str, str, Request]]] = [
    ("StartInstance", "workflow", lambda v: start(workflow=v)),
    ("Resume", "instance_id", lambda v: resume(instance_id=v)),
    ("Resume", "event", lambda v: resume(event=v)),
    ("ScheduleResume", "instance_id", lambda v: schedule(instance_id=v)),
    ("ScheduleResume", "step_ref", lambda v: schedule(step_ref=v)),
    ("GetInstance", "instance_id", lambda v: instances.GetInstanceRequest(instance_id=v)),
    ("ListHistory", "instance_id", lambda v: instances.ListHistoryRequest(instance_id=v)),
    ("WatchInstance", "instance_id", lambda v: instances.WatchInstanceRequest(instance_id=v)),
    ("CancelInstance", "instance_id", lambda v: instances.CancelInstanceRequest(instance_id=v)),
    ("RetryInstance", "instance_id", lambda v: instances.RetryInstanceRequest(instance_id=v)),
    ("GetTimer", "reference", lambda v: timers.GetTimerRequest(reference=v)),
    ("CancelTimer", "reference", lambda v: timers.CancelTimerRequest(reference=v)),
    ("FireTimer", "reference", lambda v: timers.FireTimerRequest(reference=v)),
    ("GetWorkflow", "workflow", lambda v: workflows.GetWorkflowRequest(workflow=v)),
]
OPTIONAL: Final[list[tuple[str, str, Request]]] = [
    ("StartInstance", "opts.instance_id", lambda v: start(opts_instance_id=v)),
    ("Resume", "opts.step_ref", lambda v: resume(opts_step_ref=v)),
    ("ListInstances", "workflow", lambda v: instances.ListInstancesRequest(workflow=v)),
    ("ListTimers", "instance_id", lambda v: timers.ListTimersRequest(instance_id=v)),
]


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
@pytest.mark.parametrize(("rpc", "field", "request_of"), NAMED, ids=lambda v: v if isinstance(v, str) else "")
async def test_an_invalid_name_is_reported_with_its_field(
    world: ApiWorld, rpc: str, field: str, request_of: Request, text: str
) -> None:
    assert invalid_fields(await world.call(rpc, request_of(text))) == {field}


@pytest.mark.parametrize("text", [t for t in BAD_TEXTS.values() if t])
@pytest.mark.parametrize(
    ("rpc", "field", "request_of"), OPTIONAL, ids=lambda v: v if isinstance(v, str) else ""
)
async def test_an_invalid_optional_name_is_reported_with_its_field(
    world: ApiWorld, rpc: str, field: str, request_of: Request, text: str
) -> None:
    assert invalid_fields(await world.call(rpc, request_of(text))) == {field}


@pytest.mark.parametrize("event", ["timeout", "error", "elapsed"])
async def test_a_reserved_event_is_rejected(world: ApiWorld, event: str) -> None:
    assert invalid_fields(await world.call("Resume", resume(event=event))) == {"event"}


REQUEST_IDS: Final[list[tuple[str, Request]]] = [
    ("StartInstance", lambda v: start(opts_request_id=v)),
    ("Resume", lambda v: resume(opts_request_id=v)),
    ("ScheduleResume", lambda v: schedule(opts=runner.ScheduleOptions(request_id=v))),
    (
        "CancelInstance",
        with_request_id(instances.CancelInstanceRequest, instances.CancelInstanceOptions, instance_id="here"),
    ),
    (
        "RetryInstance",
        with_request_id(instances.RetryInstanceRequest, instances.RetryInstanceOptions, instance_id="here"),
    ),
    (
        "CancelTimer",
        with_request_id(timers.CancelTimerRequest, timers.CancelTimerOptions, reference="here.1"),
    ),
    ("FireTimer", with_request_id(timers.FireTimerRequest, timers.FireTimerOptions, reference="here.1")),
]


@pytest.mark.parametrize("text", ["x" * 129, "a b", "a\0", "a\n", "ä", "\u202e"])
@pytest.mark.parametrize(("rpc", "request_of"), REQUEST_IDS, ids=lambda v: v if isinstance(v, str) else "")
async def test_an_invalid_request_id_is_reported(
    world: ApiWorld, rpc: str, request_of: Request, text: str
) -> None:
    assert invalid_fields(await world.call(rpc, request_of(text))) == {"opts.request_id"}


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({f"k{n}": "" for n in range(33)}, "opts.labels"),
        ({"": "v"}, "opts.labels"),
        ({"k" * 64: "v"}, "opts.labels"),
        ({"a b": "v"}, "opts.labels"),
        ({"k": "v" * 257}, "opts.labels['k']"),
        ({"k": "a\0"}, "opts.labels['k']"),
        ({"k": "a\u202e"}, "opts.labels['k']"),
    ],
)
async def test_invalid_labels_are_reported(world: ApiWorld, labels: dict[str, str], field: str) -> None:
    assert invalid_fields(await world.call("StartInstance", start(opts_labels=labels))) == {field}


@pytest.mark.parametrize("key", ["x" * 257, "a\0", "a\n", "a\u202eb"])
async def test_an_invalid_business_key_is_reported(world: ApiWorld, key: str) -> None:
    assert invalid_fields(await world.call("StartInstance", start(opts_business_key=key))) == {
        "opts.business_key"
    }


async def test_all_violations_are_reported_at_once(world: ApiWorld) -> None:
    request = start(
        workflow="Order",
        context=common_pb2.Payload(json="[]"),
        opts_request_id="a b",
        opts_instance_id="../x",
        opts_version=2**32 - 1,
        opts_business_key="\0",
        opts_conflict_policy=99,
        opts_start_delay_ms=-1,
        opts_labels={"A B": "c"},
    )

    assert invalid_fields(await world.call("StartInstance", request)) == {
        "workflow",
        "context",
        "opts.request_id",
        "opts.instance_id",
        "opts.version",
        "opts.business_key",
        "opts.conflict_policy",
        "opts.start_delay_ms",
        "opts.labels",
    }


async def test_violations_that_do_not_fit_are_counted(world: ApiWorld) -> None:
    labels = {f"{'k' * 60}{n:02}": "v\0" for n in range(32)}

    error = error_of(await world.call("StartInstance", start(opts_labels=labels)))

    assert "more" in error.violations[""]
    assert len(error.violations) > 10
