"""The pipeline: the ordered stages that every call of the API passes through.

Each stage is a function in a file of its own. It takes the next stage and returns a function that runs a call. The
stages are composed once, when the endpoint is built, so a call costs one coroutine for each stage that has to wait.

| stage | work |
|---|---|
| `count` | counts the call by its result and measures its duration |
| `errors` | turns every exception into an error response |
| `read` | receives the request |
| `admission` | rejects the call if the server has too much work |
| `deadline` | limits calls without a deadline |
| `encode`, `stream` | encode the response, or send the messages of a stream |
| `decode` | decodes the request and calls the handler |
"""

from __future__ import annotations

from typing import Any

from perdure_server.api.admission import AdmissionController
from perdure_server.api.call_counters import CallCounters
from perdure_server.api.methods import Kind, Method
from perdure_server.api.pipeline.admission import admit
from perdure_server.api.pipeline.count import count
from perdure_server.api.pipeline.deadline import limit_stream, limit_unary
from perdure_server.api.pipeline.decode import decode
from perdure_server.api.pipeline.encode import encode
from perdure_server.api.pipeline.errors import catch_errors
from perdure_server.api.pipeline.read import read
from perdure_server.api.pipeline.stage import Run
from perdure_server.api.pipeline.stream import send_stream


def compose(method: Method, admission: AdmissionController, counters: CallCounters) -> Run[Any]:
    """Return the function that runs the calls of a method.

    It returns the bytes of the response, or None once a stream has ended. It raises `CallFailedError`, and
    `ClientGoneError` if the stream's client is gone.
    """
    run: Run[Any]
    if method.kind is Kind.STREAM:
        run = limit_stream(send_stream(decode(method), admission), admission)
    else:
        run = limit_unary(encode(decode(method), admission), admission)
    return count(catch_errors(read(admit(run, method, admission), admission)), counters)
