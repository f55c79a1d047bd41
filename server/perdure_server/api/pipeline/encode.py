"""Stage: encode the response of a unary call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from google.protobuf.message import Message

from perdure_server.api.admission import AdmissionController
from perdure_server.api.call import Call
from perdure_server.api.pipeline.stage import Run

SMALL_RESPONSE_BYTES: Final = 16 << 10
"""Size in bytes up to which unread responses are not counted. Their number is limited by the number of calls."""


def encode(run_next: Callable[[Call], Awaitable[Message]], admission: AdmissionController) -> Run[bytes]:
    """Encode responses. Large ones count as unread bytes until the client has read them."""

    async def run(call: Call) -> bytes:
        response = (await run_next(call)).SerializeToString()
        if len(response) > SMALL_RESPONSE_BYTES:
            admission.reserve_unread_until_done(call.peer, len(response), call.transport.add_done_callback)
        return response

    return run
