"""The stages of a stream, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import CallContext, ClientGoneError, Transport
from perdure_server.api.call_counters import CallCounters
from perdure_server.api.errors import CallFailedError
from perdure_server.api.methods import Method
from perdure_server.api.pipeline.deadline import stream_end
from perdure_server.api.pipeline.decode import decoder
from perdure_server.api.pipeline.errors import response_for
from perdure_server.api.pipeline.read import reader
from perdure_server.api.pipeline.send import Sender


def compose_stream(
    method: Method, admission: AdmissionController, counters: CallCounters
) -> Callable[[Transport, Peer, CallContext], Awaitable[None]]:
    """Return the function that runs the calls of a streaming method.

    It raises `CallFailedError`, and `ClientGoneError` if the client is gone.
    """
    read = reader(admission)
    decode = decoder(method.request_type)
    handle: Callable[[Message, CallContext], Any] = method.handler

    async def run(transport: Transport, peer: Peer, context: CallContext) -> None:
        try:
            body = await read(transport, peer)
            admission.acquire_watch(peer)
            try:
                expires_at = stream_end(context, admission.limits)
                messages: AsyncGenerator[Message, None] = handle(decode(body), context)
                body = b""
                async with aclosing(messages):
                    await Sender(messages, transport, peer, admission, expires_at).run()
                counters.ok += 1
                return
            finally:
                admission.release_watch(peer)
        except (asyncio.CancelledError, ClientGoneError):
            counters.cancelled()
            raise
        except Exception as error:  # noqa: BLE001 - there is a response for each, and unknown ones are logged
            body = b""
            failure = response_for(error)
        counters.failed(failure.code.name, failure.reason)
        # Not raised in the handler above, where the exception would keep the first one as its context.
        raise CallFailedError(failure)

    return run
