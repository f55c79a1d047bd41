"""Stage: receive the request."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from perdure_server.api.admission import AdmissionController
from perdure_server.api.call import Call
from perdure_server.api.errors import RequestTimeoutError
from perdure_server.api.pipeline.stage import Run
from perdure_server.runtime.request_validation import InvalidRequestError, Violation

T = TypeVar("T")


def read(run_next: Run[T], admission: AdmissionController) -> Run[T]:
    """Read the request of a call into `Call.body`."""

    async def run(call: Call) -> T:
        await read_request(call, admission)
        return await run_next(call)

    return run


async def read_request(call: Call, admission: AdmissionController) -> None:
    """Read the request of a call into `Call.body`.

    Raises:
        RequestTimeoutError: the request did not arrive in time.
        ServerOverloadedError: too many requests are being read.
        InvalidRequestError: the call ended without a request.
    """
    peer, arrivals = call.peer, admission.arrivals
    bulk = False if admission.try_acquire_read(peer) else await admission.wait_for_read(peer)
    task = arrivals.enter()
    try:
        body = await call.transport.read()
    except asyncio.CancelledError:
        if not arrivals.is_overdue():
            raise
        raise RequestTimeoutError from None
    finally:
        arrivals.leave(task)
        admission.release_read(peer, bulk=bulk)
    if not isinstance(body, bytes):
        raise InvalidRequestError((Violation("", "the call ended without a request; send one"),))
    call.body = body
