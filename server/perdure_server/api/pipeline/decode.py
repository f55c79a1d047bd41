"""Stage: decode the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from perdure_server.runtime.request_validation import InvalidRequestError, Violation

M = TypeVar("M", bound=Message)


def decoder(request_type: type[M]) -> Callable[[bytes], M]:
    """Return a function that decodes requests. It raises `InvalidRequestError`."""
    parse: Callable[[bytes], M] = request_type.FromString
    name = request_type.DESCRIPTOR.full_name
    description = f"the bytes are not a {name} with UTF-8 strings; send a message that protobuf encoded"

    def decode(body: bytes) -> M:
        try:
            return parse(body)
        except DecodeError:
            raise InvalidRequestError((Violation("", description),)) from None

    return decode
