"""The pipeline: the ordered stages that every call of the API passes through.

| stage | work |
|---|---|
| `read` | receives the request |
| `admission` | rejects the call if the server has too much work |
| `deadline` | limits calls without a deadline |
| `decode` | decodes the request |
| the handler of the method | see the services |
| `encode`, `send` | encode the response, or send the messages of a stream |
| `errors` | turns every exception into an error response |
| `perdure_server.api.call_counters` | counts the call by its result |

``unary`` and ``stream`` run the stages in this order. They are composed for each method when the endpoint is built.
Stages that do not wait are plain functions, because a coroutine for each stage would cost 1% of a small call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import CallContext, Transport
from perdure_server.api.call_counters import CallCounters
from perdure_server.api.methods import Kind, Method
from perdure_server.api.pipeline.stream import compose_stream
from perdure_server.api.pipeline.unary import compose_unary

Run: TypeAlias = Callable[[Transport, Peer, CallContext], Awaitable[bytes | None]]
"""Runs one call. Returns the bytes of the response, or None once a stream has ended.

Raises `CallFailedError`, and `ClientGoneError` if the client of a stream is gone.
"""


def compose(method: Method, admission: AdmissionController, counters: CallCounters) -> Run:
    """Return the function that runs the calls of a method."""
    if method.kind is Kind.STREAM:
        return compose_stream(method, admission, counters)
    return compose_unary(method, admission, counters)
