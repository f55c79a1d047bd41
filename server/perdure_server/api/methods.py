"""`Method`: one method of the API as a value. Each service lists its methods."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import Message

from perdure_server.api.call import CallContext
from perdure_server.engine.value_type import value

UnaryHandler: TypeAlias = Callable[[Any, CallContext], Awaitable[Message]]
StreamHandler: TypeAlias = Callable[[Any, CallContext], AsyncGenerator[Message, None]]


class Kind(enum.Enum):
    """The form of a method's response."""

    UNARY = "unary"
    STREAM = "stream"


class LimitsClass(enum.Enum):
    """The limits that apply to a method (see `perdure_server.api.limits.Limits`)."""

    READ = "read"
    WRITE = "write"
    """Limited like READ, and rejected while the server drains."""
    LIST = "list"
    """An expensive read, limited by `Limits.lists_max`."""
    WATCH = "watch"
    """A stream, limited by `Limits.watches_max`, and rejected while the server drains."""


@value(frozen=True, slots=True)
class Method:
    """One method of a service."""

    name: str
    request_type: type[Message]
    handler: UnaryHandler | StreamHandler
    """A `StreamHandler` if the method's kind is STREAM, otherwise a `UnaryHandler`."""
    limits: LimitsClass

    @property
    def kind(self) -> Kind:
        """STREAM for watches, UNARY for all other methods."""
        return Kind.STREAM if self.limits is LimitsClass.WATCH else Kind.UNARY


class Service(Protocol):
    """A group of methods."""

    def methods(self) -> list[Method]:
        """Return the methods of the service."""
