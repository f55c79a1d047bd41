"""Bad input: bytes that are not a message, and messages that are too large."""

from __future__ import annotations

import json
from typing import Final

import grpc
import pytest

from e2e.bad_input.calls import INVALID, error_of, invalid_fields
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from support.api_fixture import METHODS, ApiWorld, CallError

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
async def test_bytes_that_are_not_a_message_are_an_invalid_argument(
    world: ApiWorld, rpc: str, body: bytes
) -> None:
    answer = await world.call(rpc, body)

    if rpc == "ListWorkflows" and body in {BAD_BYTES["bad UTF-8"], BAD_BYTES["a surrogate in UTF-8"]}:
        return  # its first field is a number, and an unknown field with bytes is valid
    if rpc == "ListInstances" and isinstance(answer, instances.ListInstancesResponse):
        return
    assert error_of(answer).what == INVALID
    assert error_of(answer).violations


@pytest.mark.parametrize("rpc", METHODS)
async def test_an_empty_body_is_an_empty_message(world: ApiWorld, rpc: str) -> None:
    answer = await world.call(rpc, b"")

    if rpc.startswith("List") and rpc != "ListHistory":
        assert not isinstance(answer, CallError)
    else:
        assert invalid_fields(answer)


async def test_a_message_over_the_limit_exhausts_a_resource(world: ApiWorld) -> None:
    request = runner.StartInstanceRequest(
        workflow="approval", context=common_pb2.Payload(json=json.dumps({"a": "x" * (5 << 20)}))
    )

    answer = await world.call("StartInstance", request)

    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
