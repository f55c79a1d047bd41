"""Stage: turn every exception into an error response."""

from __future__ import annotations

from typing import TypeVar

from perdure_server.api.call import Call, ClientGoneError
from perdure_server.api.errors import CallFailedError, error_response_of
from perdure_server.api.pipeline.stage import Run

T = TypeVar("T")


def catch_errors(run_next: Run[T]) -> Run[T]:
    """Raise `CallFailedError` in place of any other exception. A cancelled call and `ClientGoneError` pass."""

    async def run(call: Call) -> T:
        try:
            return await run_next(call)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the table has a response for each, and logs unknown ones
            response = error_response_of(error)
            call.body = b""
            _forget_frames(error)
        # Outside of the handler: an exception that is raised in it would keep the first one as its context.
        raise CallFailedError(response)

    return run


def _forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and of its causes.

    Transports can keep the error of a call in a reference cycle, as gRPC does. Without this, everything that the
    frames hold, such as payloads, would stay in memory until Python's next garbage collection.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
