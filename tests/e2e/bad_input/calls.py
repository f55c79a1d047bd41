"""What bad input is sent in, and what must come back, whatever the input was.

Names as in the API. Every row of these tables also holds for everything else: no input may produce UNKNOWN or INTERNAL,
every refusal has a reason, and its details fit into what proxies let through.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf.message import Message

from perdure.v1 import runner_service_pb2 as runner
from support.api_fixture import CallError

INVALID: Final = ("INVALID_ARGUMENT", "INVALID_FIELD")
DETAILS_BYTES_MAX: Final = 6 << 10


def sound(answer: Any) -> CallError:
    """Return a refusal that is as every refusal must be."""
    assert isinstance(answer, CallError), answer
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
