"""Calls with bad input, and checks that apply to every error.

No input can cause UNKNOWN or INTERNAL. Every error has a reason, and its details fit into the headers that proxies
accept.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf.message import Message

from perdure.v1 import runner_service_pb2 as runner
from support.api_fixture import CallError

INVALID: Final = ("INVALID_ARGUMENT", "INVALID_FIELD")
DETAILS_BYTES_MAX: Final = 6 << 10


def error_of(response: Any) -> CallError:
    """Return the error of a call, after the checks that apply to every error."""
    assert isinstance(response, CallError), response
    assert response.code not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
    assert response.reason
    assert response.message
    assert response.details_bytes <= DETAILS_BYTES_MAX
    return response


def invalid_fields(response: Any) -> set[str]:
    """Return the fields that an INVALID_FIELD names."""
    error = error_of(response)
    assert error.what == INVALID
    assert all(error.violations.values())
    return set(error.violations)


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
