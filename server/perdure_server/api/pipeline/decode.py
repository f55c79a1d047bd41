"""Stage: decode the request and call the handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, Message

from perdure_server.api.call import Call
from perdure_server.api.methods import Method
from perdure_server.runtime.request_validation import InvalidRequestError, Violation


def decode(method: Method) -> Callable[[Call], Any]:
    """Return a function that decodes the request of a call and returns what the method's handler returns.

    It raises `InvalidRequestError` if the request cannot be decoded.
    """
    handler = method.handler
    parse: Callable[[bytes], Message] = method.request_type.FromString

    def run(call: Call) -> Any:
        # A call can take long, and a request can be large. Only the handler keeps the parts of it that it needs.
        body, call.body = call.body, b""
        try:
            return handler(parse(body), call.context)
        except DecodeError:
            raise not_a_message(method.request_type) from None

    return run


def not_a_message(request_type: type[Message]) -> InvalidRequestError:
    """Return the error for bytes that cannot be decoded."""
    name = request_type.DESCRIPTOR.full_name
    description = f"the bytes are not a {name} with UTF-8 strings; send a message that protobuf encoded"
    return InvalidRequestError((Violation("", description),))
