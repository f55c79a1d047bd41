"""The table "Bad input: what must come back", row by row, over a real channel.

Names as in the API. Every row also holds for everything else: no input may produce UNKNOWN or INTERNAL, every refusal
has a reason, and its details fit into what proxies let through.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message

from api_world import METHODS, ApiWorld, Refused, serving
from contract.runner_flows import FLOWS
from perdure import Workflow, graph_of, wait_for
from perdure.graph import DURATION_MS_MAX
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure.v1 import timer_service_pb2 as timers
from perdure.v1 import workflow_service_pb2 as workflows
from perdure_server.api.limits import Limits
from perdure_server.engine.commands import PAYLOAD_BYTES_MAX
from perdure_server.store.protocol import OutcomeUnknown, StoredInstance, StoreError, Unavailable
from perdure_server.store.sqlite import SqliteStore

INVALID: Final = ("INVALID_ARGUMENT", "INVALID_FIELD")
DETAILS_BYTES_MAX: Final = 6 << 10


class FaultyStore(SqliteStore):
    """The real store, whose reads and commits fail while a test says so."""

    fault: StoreError | None = None

    async def commit(self, changes: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return await super().commit(changes)

    async def get_instance(self, instance_id: str) -> StoredInstance | None:
        if self.fault is not None:
            raise self.fault
        return await super().get_instance(instance_id)


@pytest.fixture
async def store() -> FaultyStore:
    return FaultyStore(None)


@pytest.fixture
async def world(store: FaultyStore) -> AsyncIterator[ApiWorld]:
    async with serving(FLOWS, store=store) as made:
        yield made


def sound(answer: Any) -> Refused:
    """Return a refusal that is as every refusal must be."""
    assert isinstance(answer, Refused), answer
    assert answer.code not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
    assert answer.reason
    assert answer.message
    assert answer.details_bytes <= DETAILS_BYTES_MAX
    return answer


def blamed(answer: Any) -> set[str]:
    """Return the fields that an INVALID_FIELD names."""
    refusal = sound(answer)
    assert refusal.what == INVALID
    assert all(refusal.violations.values())
    return set(refusal.violations)


# --- the whole message -------------------------------------------------------------------------------------------

BAD_BYTES: Final = {
    "garbage": b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "truncated": b"\x0a\x10abc",
    "bad UTF-8": b"\x0a\x02\xc3\x28",
    "a surrogate in UTF-8": b"\x0a\x03\xed\xa0\x80",
    "nested too deep": b"\x1a\xff\xff\xff\xff\x0f",
    "a group that never ends": b"\x0b" * 5_000,
}


@pytest.mark.parametrize("body", BAD_BYTES.values(), ids=BAD_BYTES)
@pytest.mark.parametrize("rpc", METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_argument(
    world: ApiWorld, rpc: str, body: bytes
) -> None:
    answer = await world.call(rpc, body)

    if rpc == "ListWorkflows" and body in {BAD_BYTES["bad UTF-8"], BAD_BYTES["a surrogate in UTF-8"]}:
        return  # its first field is a number: an unknown field of bytes is nothing wrong
    if rpc == "ListInstances" and isinstance(answer, instances.ListInstancesResponse):
        return
    assert sound(answer).what == INVALID
    assert sound(answer).violations


@pytest.mark.parametrize("rpc", METHODS)
async def test_no_bytes_at_all_are_an_empty_message(world: ApiWorld, rpc: str) -> None:
    answer = await world.call(rpc, b"")

    if rpc.startswith("List") and rpc != "ListHistory":
        assert not isinstance(answer, Refused)
    else:
        assert blamed(answer)


async def test_a_message_over_the_limit_exhausts_a_resource(world: ApiWorld) -> None:
    request = runner.StartInstanceRequest(
        workflow="approval", context=common_pb2.Payload(json=json.dumps({"a": "x" * (5 << 20)}))
    )

    answer = await world.call("StartInstance", request)

    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- names and ids -----------------------------------------------------------------------------------------------

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


def start(**fields: Any) -> Message:
    opts = {name.removeprefix("opts_"): fields.pop(name) for name in list(fields) if name.startswith("opts_")}
    return runner.StartInstanceRequest(**{"workflow": "approval", **fields}, opts=runner.StartOptions(**opts))


def resume(**fields: Any) -> Message:
    opts = {name.removeprefix("opts_"): fields.pop(name) for name in list(fields) if name.startswith("opts_")}
    return runner.ResumeRequest(
        **{"instance_id": "here", "event": "approved", **fields}, opts=runner.ResumeOptions(**opts)
    )


def schedule(**fields: Any) -> Message:
    return runner.ScheduleResumeRequest(
        **{"instance_id": "here", "step_ref": "decide", "delay_ms": 1_000, **fields}
    )


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
async def test_a_bad_name_is_blamed_on_its_field(
    world: ApiWorld, rpc: str, field: str, request_of: Request, text: str
) -> None:
    assert blamed(await world.call(rpc, request_of(text))) == {field}


@pytest.mark.parametrize("text", [t for t in BAD_TEXTS.values() if t])
@pytest.mark.parametrize(
    ("rpc", "field", "request_of"), OPTIONAL, ids=lambda v: v if isinstance(v, str) else ""
)
async def test_a_bad_optional_name_is_blamed_on_its_field(
    world: ApiWorld, rpc: str, field: str, request_of: Request, text: str
) -> None:
    assert blamed(await world.call(rpc, request_of(text))) == {field}


@pytest.mark.parametrize("event", ["timeout", "error", "elapsed"])
async def test_a_reserved_event_cannot_come_from_outside(world: ApiWorld, event: str) -> None:
    assert blamed(await world.call("Resume", resume(event=event))) == {"event"}


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
async def test_a_bad_request_id_is_blamed(world: ApiWorld, rpc: str, request_of: Request, text: str) -> None:
    assert blamed(await world.call(rpc, request_of(text))) == {"opts.request_id"}


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
async def test_bad_labels_are_blamed(world: ApiWorld, labels: dict[str, str], field: str) -> None:
    assert blamed(await world.call("StartInstance", start(opts_labels=labels))) == {field}


@pytest.mark.parametrize("key", ["x" * 257, "a\0", "a\n", "a\u202eb"])
async def test_a_bad_business_key_is_blamed(world: ApiWorld, key: str) -> None:
    assert blamed(await world.call("StartInstance", start(opts_business_key=key))) == {"opts.business_key"}


async def test_all_violations_are_told_at_once(world: ApiWorld) -> None:
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

    assert blamed(await world.call("StartInstance", request)) == {
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


async def test_more_violations_than_fit_are_counted(world: ApiWorld) -> None:
    labels = {f"{'k' * 60}{n:02}": "v\0" for n in range(32)}

    refusal = sound(await world.call("StartInstance", start(opts_labels=labels)))

    assert "more" in refusal.violations[""]
    assert len(refusal.violations) > 10


# --- JSON --------------------------------------------------------------------------------------------------------

BAD_JSON: Final = {
    "empty": "",
    "no JSON": "{",
    "two values": "{} {}",
    "a comment": "{/* */}",
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": -Infinity}',
    "a number like infinity": '{"a": 1e999}',
    "nested 10,000 deep": '{"a":' + "[" * 10_000 + "]" * 10_000 + "}",
    "nested 101 deep": '{"a":' + "[" * 100 + "]" * 100 + "}",
    "a lone surrogate": '{"a": "\\ud800"}',
    "surrogates in the wrong order": '{"a": "\\udc00\\ud800"}',
    "NUL in a key": '{"a\\u0000": 1}',
    "NUL in a key deep inside": '[{"a": [{"\\u0000": 1}]}]',
    "a raw control character": '{"a": "\x01"}',
    "a byte order mark": "\ufeff{}",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
async def test_bad_json_is_blamed_on_its_field(world: ApiWorld, text: str) -> None:
    body = common_pb2.Payload(json=text)

    assert blamed(await world.call("StartInstance", start(context=body))) == {"context"}
    assert blamed(await world.call("Resume", resume(opts_payload=body))) == {"opts.payload"}


@pytest.mark.parametrize("text", ["[]", "17", '"text"', "null", "true"])
async def test_a_context_must_be_an_object(world: ApiWorld, text: str) -> None:
    assert blamed(await world.call("StartInstance", start(context=common_pb2.Payload(json=text)))) == {
        "context"
    }


async def test_a_payload_of_one_mebibyte_is_taken_and_a_byte_more_is_not(world: ApiWorld) -> None:
    text = json.dumps({"a": ""})
    largest = json.dumps({"a": "x" * (PAYLOAD_BYTES_MAX - len(text))})

    taken = await world.call("StartInstance", start(context=common_pb2.Payload(json=largest)))
    too_large = common_pb2.Payload(json=largest + " ")
    refusals = [
        sound(await world.call("StartInstance", start(context=too_large))),
        sound(await world.call("Resume", resume(opts_payload=too_large))),
    ]

    assert taken.created
    assert [r.what for r in refusals] == [("RESOURCE_EXHAUSTED", "PAYLOAD_TOO_LARGE")] * 2
    assert [r.metadata["field"] for r in refusals] == ["context", "opts.payload"]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 9223372036854775807}',
        '{"a": 1, "a": 2}',
        '{"a": "\\u0000"}',
        " { } ",
        '{"ä": "\\ud83d\\ude00"}',
    ],
)
async def test_what_is_json_is_given_back_byte_for_byte(world: ApiWorld, text: str) -> None:
    started = await world.call("StartInstance", start(context=common_pb2.Payload(json=text)))
    found = await world.call("GetInstance", instances.GetInstanceRequest(instance_id=started.instance_id))

    assert found.instance.initial.json == text


async def test_a_payload_without_a_body_is_none(world: ApiWorld) -> None:
    started = await world.call("StartInstance", start(context=common_pb2.Payload()))
    resumed = await world.call(
        "Resume", resume(instance_id=started.instance_id, opts_payload=common_pb2.Payload())
    )
    found = await world.call("GetInstance", instances.GetInstanceRequest(instance_id=started.instance_id))

    assert resumed.disposition == runner.DISPOSITION_DELIVERED
    assert found.instance.initial.json == "{}"


# --- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [0, -1, DURATION_MS_MAX + 1, 2**63 - 1, -(2**63)])
async def test_a_delay_out_of_bounds_is_blamed(world: ApiWorld, delay_ms: int) -> None:
    assert blamed(await world.call("ScheduleResume", schedule(delay_ms=delay_ms))) == {"delay_ms"}


@pytest.mark.parametrize("delay_ms", [-1, DURATION_MS_MAX + 1, 2**63 - 1])
async def test_a_start_delay_out_of_bounds_is_blamed(world: ApiWorld, delay_ms: int) -> None:
    answer = await world.call("StartInstance", start(opts_start_delay_ms=delay_ms))

    assert blamed(answer) == {"opts.start_delay_ms"}


async def test_the_longest_delay_is_taken(world: ApiWorld) -> None:
    await world.start("approval", "here")

    answer = await world.call("ScheduleResume", schedule(delay_ms=DURATION_MS_MAX))

    assert answer.reference.startswith("here.")


@pytest.mark.parametrize("size", [-1, -(2**31)])
@pytest.mark.parametrize(
    ("rpc", "request_type"),
    [
        ("ListInstances", instances.ListInstancesRequest),
        ("ListTimers", timers.ListTimersRequest),
        ("ListWorkflows", workflows.ListWorkflowsRequest),
    ],
)
async def test_a_negative_page_size_is_blamed(
    world: ApiWorld, rpc: str, request_type: Any, size: int
) -> None:
    assert blamed(await world.call(rpc, request_type(page_size=size))) == {"page_size"}


async def test_a_huge_page_size_is_cut_to_a_thousand(world: ApiWorld) -> None:
    for instance_id, count in (("here", 1_000), ("there", 1)):
        await world.start("approval", instance_id)
        for _ in range(count):
            armed = schedule(instance_id=instance_id, delay_ms=DURATION_MS_MAX)
            assert (await world.call("ScheduleResume", armed)).revision

    page = await world.call("ListTimers", timers.ListTimersRequest(page_size=10**9))

    assert len(page.timers) == 1_000
    assert page.next_page_token


# --- page tokens -------------------------------------------------------------------------------------------------


async def test_a_page_token_that_was_altered_is_blamed(world: ApiWorld) -> None:
    for _ in range(3):
        await world.start("approval")
    first = await world.call("ListInstances", instances.ListInstancesRequest(page_size=1))
    token = first.next_page_token

    for index in range(len(token)):
        altered = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        answer = await world.call(
            "ListInstances", instances.ListInstancesRequest(page_size=1, page_token=altered)
        )
        assert blamed(answer) == {"page_token"}, altered


@pytest.mark.parametrize("token", ["x", "=", "a" * 5_000, "ä", "\0", "////", "AAAA" * 10])
async def test_a_page_token_out_of_thin_air_is_blamed(world: ApiWorld, token: str) -> None:
    for rpc, request in (
        ("ListInstances", instances.ListInstancesRequest(page_token=token)),
        ("ListHistory", instances.ListHistoryRequest(instance_id="here", page_token=token)),
        ("ListTimers", timers.ListTimersRequest(page_token=token)),
        ("ListWorkflows", workflows.ListWorkflowsRequest(page_token=token)),
    ):
        assert blamed(await world.call(rpc, request)) == {"page_token"}


async def test_a_page_token_of_another_query_is_blamed(world: ApiWorld) -> None:
    for _ in range(2):
        await world.start("approval")
    first = await world.call("ListInstances", instances.ListInstancesRequest(page_size=1))

    for other in (
        instances.ListInstancesRequest(workflow="approval"),
        instances.ListInstancesRequest(business_key="k"),
        instances.ListInstancesRequest(labels={"a": "b"}),
        instances.ListInstancesRequest(states=[instances.INSTANCE_STATE_WAITING]),
    ):
        other.page_token = first.next_page_token
        assert blamed(await world.call("ListInstances", other)) == {"page_token"}
    listed = await world.call("ListTimers", timers.ListTimersRequest(page_token=first.next_page_token))
    assert blamed(listed) == {"page_token"}


async def test_pages_follow_each_other_without_a_repeat_or_a_gap(world: ApiWorld) -> None:
    started = [(await world.start("approval")).instance_id for _ in range(5)]

    found: list[str] = []
    token = ""
    while True:
        page = await world.call(
            "ListInstances", instances.ListInstancesRequest(page_size=2, page_token=token)
        )
        found += [line.instance_id for line in page.instances]
        token = page.next_page_token
        if not token:
            break

    assert sorted(found) == sorted(started)
    assert len(found) == 5


# --- revisions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [1_000, 2**63 - 1])
async def test_a_revision_in_the_future_is_out_of_range(world: ApiWorld, revision: int) -> None:
    await world.start("approval", "here")

    for rpc, request in (
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="here", after_revision=revision)),
        ("ListHistory", instances.ListHistoryRequest(instance_id="here", after_revision=revision)),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("OUT_OF_RANGE", "REVISION_IN_FUTURE")
        assert int(refusal.metadata["revision"]) >= 1


@pytest.mark.parametrize("revision", [-1, -(2**63)])
async def test_a_negative_revision_is_blamed(world: ApiWorld, revision: int) -> None:
    for rpc, request in (
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="here", after_revision=revision)),
        ("ListHistory", instances.ListHistoryRequest(instance_id="here", after_revision=revision)),
    ):
        assert blamed(await world.call(rpc, request)) == {"after_revision"}


async def test_a_state_that_is_none_is_blamed(world: ApiWorld) -> None:
    for state in (0, 7, 99, -1):
        answer = await world.call("ListInstances", instances.ListInstancesRequest(states=[state]))
        assert blamed(answer) == {"states"}


# --- what is not there, what is there already --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rpc", "request_message"),
    [
        ("Resume", resume(instance_id="nobody")),
        ("ScheduleResume", schedule(instance_id="nobody")),
        ("GetInstance", instances.GetInstanceRequest(instance_id="nobody")),
        ("ListHistory", instances.ListHistoryRequest(instance_id="nobody")),
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="nobody")),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="nobody")),
        ("RetryInstance", instances.RetryInstanceRequest(instance_id="nobody")),
    ],
)
async def test_an_unknown_instance_is_not_found(world: ApiWorld, rpc: str, request_message: Message) -> None:
    refusal = sound(await world.call(rpc, request_message))

    assert refusal.what == ("NOT_FOUND", "INSTANCE_NOT_FOUND")
    assert refusal.resource == ("instance", "nobody")


@pytest.mark.parametrize("reference", ["nobody.3", "here.1", "here.999999999999999999"])
async def test_an_unknown_timer_is_not_found(world: ApiWorld, reference: str) -> None:
    await world.start("approval", "here")

    for rpc, request in (
        ("GetTimer", timers.GetTimerRequest(reference=reference)),
        ("CancelTimer", timers.CancelTimerRequest(reference=reference)),
        ("FireTimer", timers.FireTimerRequest(reference=reference)),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("NOT_FOUND", "TIMER_NOT_FOUND")
        assert refusal.resource == ("timer", reference)


async def test_an_unknown_workflow_is_not_found(world: ApiWorld) -> None:
    for rpc, request in (
        ("StartInstance", start(workflow="nothing")),
        ("StartInstance", start(workflow="approval", opts_version=77)),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="nothing")),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="approval", version=77)),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("NOT_FOUND", "WORKFLOW_NOT_FOUND")
        assert refusal.resource[0] == "workflow"


async def test_a_workflow_that_is_not_there_is_told_with_those_that_are(world: ApiWorld) -> None:
    for rpc, request in (
        ("StartInstance", start(workflow="aproval")),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="aproval")),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.metadata["nearest"] == "approval"
        assert set(refusal.metadata["workflows"].split(",")) == {graph_of(flow).name for flow in FLOWS}
        assert "did you mean approval?" in refusal.message
    for rpc, request in (
        ("StartInstance", start(workflow="approval", opts_version=77)),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="approval", version=77)),
    ):
        assert sound(await world.call(rpc, request)).metadata["versions"] == "1,2"


class Newcomer(Workflow, name="newcomer", version=1):
    """Served by nobody at first."""

    start = "come"
    come = wait_for("come", on={"come": "end"})


async def test_a_workflow_that_was_just_stored_is_among_those_that_are(world: ApiWorld) -> None:
    await world.call("GetWorkflow", workflows.GetWorkflowRequest(workflow="newcomers"))
    await world.core.definitions.register(graph_of(Newcomer))

    refusal = sound(await world.call("GetWorkflow", workflows.GetWorkflowRequest(workflow="newcomers")))

    assert refusal.metadata["nearest"] == "newcomer"


async def test_an_unknown_step_is_not_found(world: ApiWorld) -> None:
    await world.start("approval", "here")

    for rpc, request in (
        ("Resume", resume(opts_step_ref="nowhere")),
        ("ScheduleResume", schedule(step_ref="nowhere")),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("NOT_FOUND", "STEP_NOT_FOUND")
        assert refusal.resource == ("step", "nowhere")


async def test_an_instance_that_exists_already_does(world: ApiWorld) -> None:
    await world.start("approval", "here", request_id="one")

    refusal = sound(await world.start("approval", "here", request_id="two"))

    assert refusal.what == ("ALREADY_EXISTS", "INSTANCE_ALREADY_EXISTS")
    assert refusal.resource == ("instance", "here")


async def test_a_business_key_in_use_names_its_holder(world: ApiWorld) -> None:
    await world.start("approval", "here", business_key="k")

    refusal = sound(await world.start("approval", "there", business_key="k"))

    assert refusal.what == ("ALREADY_EXISTS", "BUSINESS_KEY_IN_USE")
    assert refusal.resource == ("instance", "here")


async def test_an_empty_object_is_the_same_body_as_none(world: ApiWorld) -> None:
    await world.start("approval", "here")

    first = await world.call("Resume", resume(opts_request_id="one"))
    again = await world.call(
        "Resume", resume(opts_request_id="one", opts_payload=common_pb2.Payload(json="{}"))
    )

    assert again == first


async def test_a_request_id_with_another_body_is_refused(world: ApiWorld) -> None:
    await world.start("approval", "here", request_id="one")
    await world.call("ScheduleResume", schedule(opts=runner.ScheduleOptions(request_id="one")))

    for rpc, request in (
        ("StartInstance", start(workflow="chain", opts_request_id="one")),
        ("ScheduleResume", schedule(delay_ms=77, opts=runner.ScheduleOptions(request_id="one"))),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
        assert set(refusal.violations) == {"opts.request_id"}


# --- what does not fit the instance's state ----------------------------------------------------------------------


async def test_a_finished_instance_takes_no_event_and_no_cancel(world: ApiWorld) -> None:
    await world.start("approval", "here")
    await world.call("Resume", resume())

    for rpc, request in (
        ("Resume", resume()),
        ("ScheduleResume", schedule()),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="here")),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("FAILED_PRECONDITION", "INSTANCE_TERMINAL")
        assert refusal.metadata["state"] == "COMPLETED"
        assert refusal.preconditions == ("here",)


async def test_an_event_that_is_not_awaited_names_the_steps_that_may(world: ApiWorld) -> None:
    await world.start("chain", "here")

    refusal = sound(await world.call("Resume", resume(event="three")))

    assert refusal.what == ("FAILED_PRECONDITION", "EVENT_NOT_AWAITED")
    assert refusal.metadata["step_refs"] == "third"


async def test_an_event_that_never_will_be_accepted_is_told_so(world: ApiWorld) -> None:
    await world.start("chain", "here")
    await world.call("Resume", resume(event="skip"))

    refusal = sound(await world.call("Resume", resume(event="two")))

    assert refusal.what == ("FAILED_PRECONDITION", "EVENT_NEVER_ACCEPTED")
    assert refusal.metadata["events"] == "three"


async def test_an_ambiguous_event_names_the_steps(world: ApiWorld) -> None:
    await world.start("twins", "here")
    await world.call("Resume", resume(event="opened"))

    refusal = sound(await world.call("Resume", resume(event="go")))

    assert refusal.what == ("FAILED_PRECONDITION", "AMBIGUOUS_EVENT")
    assert refusal.metadata["step_refs"] == "left,right"


async def test_a_resume_is_scheduled_only_for_a_step_that_can_take_it(world: ApiWorld) -> None:
    await world.start("chain", "here")
    no_timeout = sound(await world.call("ScheduleResume", schedule(step_ref="first")))
    await world.call("Resume", resume(event="one"))
    await world.call("Resume", resume(event="two"))
    finished = sound(await world.call("ScheduleResume", schedule(step_ref="second")))
    await world.start("chain", "there")
    await world.call("Resume", resume(instance_id="there", event="skip"))
    unreachable = sound(await world.call("ScheduleResume", schedule(instance_id="there", step_ref="second")))

    assert no_timeout.what == ("FAILED_PRECONDITION", "STEP_HAS_NO_TIMEOUT")
    assert finished.what == ("FAILED_PRECONDITION", "STEP_FINISHED")
    assert unreachable.what == ("FAILED_PRECONDITION", "STEP_UNREACHABLE")


async def test_only_a_failed_instance_can_be_retried(world: ApiWorld) -> None:
    await world.start("approval", "here")

    refusal = sound(await world.call("RetryInstance", instances.RetryInstanceRequest(instance_id="here")))

    assert refusal.what == ("FAILED_PRECONDITION", "INSTANCE_NOT_FAILED")
    assert refusal.metadata["state"] == "WAITING"


async def test_a_start_timer_cannot_be_cancelled(world: ApiWorld) -> None:
    await world.start("approval", "here", start_delay_ms=100_000)
    (timer,) = (await world.call("ListTimers", timers.ListTimersRequest(instance_id="here"))).timers

    refusal = sound(await world.call("CancelTimer", timers.CancelTimerRequest(reference=timer.reference)))

    assert refusal.what == ("FAILED_PRECONDITION", "TIMER_NOT_CANCELLABLE")


async def test_a_full_inbox_takes_no_more(world: ApiWorld) -> None:
    await world.start("chain", "here")
    for _ in range(1_000):
        answer = await world.call("Resume", resume(event="three", opts_buffer=True))
        assert answer.disposition == runner.DISPOSITION_BUFFERED

    refusal = sound(await world.call("Resume", resume(event="three", opts_buffer=True)))

    assert refusal.what == ("RESOURCE_EXHAUSTED", "INBOX_FULL")


async def test_a_million_scheduled_resumes_are_stopped_at_a_thousand(world: ApiWorld) -> None:
    await world.start("approval", "here")
    again = schedule(delay_ms=3_600_000)
    answers = [await world.call("ScheduleResume", again) for _ in range(1_000)]

    refusal = sound(await world.call("ScheduleResume", again))

    assert refusal.what == ("RESOURCE_EXHAUSTED", "TOO_MANY_TIMERS")
    assert refusal.metadata["timers_max"] == "1000"
    cancel = timers.CancelTimerRequest(reference=answers[0].reference)
    assert (await world.call("CancelTimer", cancel)).revision
    assert (await world.call("ScheduleResume", again)).reference


# --- the server's own troubles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Unavailable("away"), "DATABASE_UNAVAILABLE"), (OutcomeUnknown("lost"), "OUTCOME_UNKNOWN")],
)
async def test_a_database_in_trouble_is_unavailable_and_says_when_to_try_again(
    world: ApiWorld, store: FaultyStore, fault: StoreError, reason: str
) -> None:
    await world.start("approval", "here")
    store.fault = fault

    answers = [
        await world.start("approval"),
        await world.call("Resume", resume()),
        await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here")),
    ]
    store.fault = None

    for answer in answers:
        assert sound(answer).what == ("UNAVAILABLE", reason)
        assert answer.retry_after_ms > 0
    assert (await world.call("Resume", resume())).disposition == runner.DISPOSITION_DELIVERED


async def test_a_defect_is_logged_and_told_as_an_unknown_outcome(
    world: ApiWorld, store: FaultyStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(*_: object) -> None:
        raise KeyError("a customer's secret")

    monkeypatch.setattr(store, "get_instance", defect)

    refusal = sound(await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here")))

    assert refusal.what == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
    assert "secret" not in refusal.message
    assert any(record.exc_info for record in caplog.records)


async def test_too_much_load_is_refused_with_a_pause(store: FaultyStore) -> None:
    async with serving(FLOWS, store=store, limits=Limits(calls_max=0, watches_max=0)) as world:
        for rpc in METHODS:
            refusal = sound(await world.call(rpc, b""))
            assert refusal.what == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert refusal.retry_after_ms > 0


async def test_more_bytes_than_the_server_holds_at_once_are_refused(store: FaultyStore) -> None:
    async with serving(FLOWS, store=store, limits=Limits(calls_bytes_max=1_000)) as world:
        small = await world.start("approval")
        large = await world.call(
            "StartInstance", start(context=common_pb2.Payload(json=json.dumps({"a": "x" * 2_000})))
        )

    assert small.created
    assert sound(large).what == ("RESOURCE_EXHAUSTED", "OVERLOADED")


async def test_a_draining_server_refuses_what_would_change_something_and_still_reads(world: ApiWorld) -> None:
    await world.start("approval", "here")
    await world.api.drain()

    for rpc, request in (
        ("StartInstance", start()),
        ("Resume", resume()),
        ("ScheduleResume", schedule()),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="here")),
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="here")),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert refusal.retry_after_ms > 0
    found = await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here"))
    assert found.instance.instance_id == "here"
