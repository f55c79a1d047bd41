"""Stage: turn every exception into an error response."""

from __future__ import annotations

from perdure_server.api.errors import ErrorResponse, error_response_of


def response_for(error: Exception) -> ErrorResponse:
    """Return the response for an exception, and drop everything that the exception keeps in memory.

    Transports can keep the error of a call in a reference cycle, as gRPC does. Payloads in the frames of the traceback
    would then stay in memory until Python's next garbage collection.
    """
    response = error_response_of(error)
    cause: BaseException | None = error
    while cause is not None and cause.__traceback__ is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return response
