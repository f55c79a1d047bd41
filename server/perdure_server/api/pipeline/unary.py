"""The stages of a unary call, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from google.protobuf.message import Message

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import CallContext, Transport
from perdure_server.api.call_counters import CallCounters
from perdure_server.api.errors import CallFailedError
from perdure_server.api.methods import Method
from perdure_server.api.pipeline.admission import places_of
from perdure_server.api.pipeline.deadline import CallDeadline
from perdure_server.api.pipeline.decode import decoder
from perdure_server.api.pipeline.encode import encoder
from perdure_server.api.pipeline.errors import response_for
from perdure_server.api.pipeline.read import reader


def compose_unary(
    method: Method, admission: AdmissionController, counters: CallCounters
) -> Callable[[Transport, Peer, CallContext], Awaitable[bytes]]:
    """Return the function that runs the calls of a unary method. It raises `CallFailedError`."""
    read = reader(admission)
    acquire, release = places_of(method, admission)
    deadline = CallDeadline(admission)
    decode = decoder(method.request_type)
    handle: Callable[[Message, CallContext], Any] = method.handler
    encode = encoder(admission)
    durations = counters.seconds
    assert durations is not None

    async def run(transport: Transport, peer: Peer, context: CallContext) -> bytes:
        try:
            body = await read(transport, peer)
            size_bytes = len(body)
            acquire(peer, size_bytes)
            admitted_at = perf_counter()
            limited = deadline.start() if context.deadline is None else None
            try:
                pending = handle(decode(body), context)
                # A call can take long, and a request can be large. Only the handler keeps what it needs of it.
                body = b""
                response = encode(await pending, transport, peer)
                counters.ok += 1
                return response
            except asyncio.CancelledError:
                if limited is not None:
                    deadline.raise_if_exceeded()
                raise
            finally:
                durations.add(perf_counter() - admitted_at)
                if limited is not None:
                    deadline.end(limited)
                release(peer, size_bytes)
        except asyncio.CancelledError:
            counters.cancelled()
            raise
        except Exception as error:  # noqa: BLE001 - there is a response for each, and unknown ones are logged
            body = b""
            failure = response_for(error)
        counters.failed(failure.code.name, failure.reason)
        # Not raised in the handler above, where the exception would keep the first one as its context.
        raise CallFailedError(failure)

    return run
