"""Stage: receive the request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import Transport
from perdure_server.api.errors import RequestTimeoutError
from perdure_server.runtime.request_validation import InvalidRequestError, Violation


def reader(admission: AdmissionController) -> Callable[[Transport, Peer], Awaitable[bytes]]:
    """Return a function that reads the request of a call.

    It raises `RequestTimeoutError` if the request does not arrive in time, `ServerOverloadedError` if too many
    requests are being read, and `InvalidRequestError` if the call ends without a request.
    """
    arrivals = admission.arrivals

    async def read(transport: Transport, peer: Peer) -> bytes:
        bulk = False if admission.try_acquire_read(peer) else await admission.wait_for_read(peer)
        task = arrivals.enter()
        try:
            body = await transport.read()
        except asyncio.CancelledError:
            if not arrivals.is_overdue():
                raise
            raise RequestTimeoutError from None
        finally:
            arrivals.leave(task)
            admission.release_read(peer, bulk)
        if not isinstance(body, bytes):
            raise InvalidRequestError((Violation("", "the call ended without a request; send one"),))
        return body

    return read
