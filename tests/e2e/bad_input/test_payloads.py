"""Bad input: what is no JSON, and what JSON must come back as it was."""

from __future__ import annotations

import json
from typing import Final

import pytest

from e2e.bad_input.calls import blamed, resume, sound, start
from perdure.model.constants import PAYLOAD_BYTES_MAX
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from support.api_fixture import ApiWorld

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

    assert found.instance.input.json == text


async def test_a_payload_without_a_body_is_none(world: ApiWorld) -> None:
    started = await world.call("StartInstance", start(context=common_pb2.Payload()))
    resumed = await world.call(
        "Resume", resume(instance_id=started.instance_id, opts_payload=common_pb2.Payload())
    )
    found = await world.call("GetInstance", instances.GetInstanceRequest(instance_id=started.instance_id))

    assert resumed.disposition == runner.DISPOSITION_DELIVERED
    assert found.instance.input.json == "{}"
