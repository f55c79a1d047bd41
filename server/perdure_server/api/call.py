"""The context of a call, and the port through which a transport offers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from perdure_server.engine.value_type import value


@value(frozen=True, slots=True)
class CallContext:
    """The circumstances of a call that its handler can use."""

    caller: str = ""
    """The authenticated identity. Empty while the server does not authenticate callers."""
    namespace: str = ""
    """The namespace of the instances that the call can see. The default namespace is ``''``."""
    deadline: float | None = None
    """The time of `time.monotonic` at which the caller gives up. None if the caller did not set a deadline."""
    trace: str = ""
    """The trace context of the caller. Empty if there is none."""


class Transport(Protocol):
    """One call, as its transport sees it.

    The transport cancels the task that runs the call when the caller is gone or the caller's deadline has passed.
    """

    def read(self) -> Awaitable[object]:
        """Return the bytes of the request. Returns anything else if the call ended without a request."""

    def write(self, message: bytes, /) -> Awaitable[object]:
        """Send one message of a stream. Returns once the transport can take the next.

        Raises:
            ClientGoneError: the connection is closed.
        """

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        """Call ``callback`` once the client has read the response of a unary call, or is gone."""


class ClientGoneError(Exception):
    """The connection of a call is closed, so nothing can be sent."""


class ReaderTooSlowError(Exception):
    """Raised inside the handler of a stream whose client has left a message unread for too long.

    The handler releases what it holds and can yield one last message. The message is sent once the client reads on.
    """
