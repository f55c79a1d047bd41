"""Pages of lists, and the tokens that continue them. A token is bound to its query.

A token is opaque to clients. It carries a cursor and a digest over both the cursor and the query, so that a token
that was altered, or taken from another list, is refused instead of showing the wrong page. It is no secret and guards
nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.message import Message

from perdure_server.runtime.request_validation import Violations

T = TypeVar("T")
M = TypeVar("M", bound=Message)

PAGE_BYTES_MAX: Final = 3 << 20
"""A page ends before it is larger, whatever its size in items: many a client takes no message above 4 MiB."""

ITEMS_PER_TURN_MAX: Final = 50
"""Maximum number of items that are converted in one turn of the event loop, about half a millisecond."""

_DIGEST_BYTES: Final = 12
_TOKEN_CHARS_MAX: Final = 2_000


def page_token(query: tuple[Any, ...], cursor: tuple[Any, ...]) -> str:
    """Return the token of the page behind ``cursor``."""
    body = orjson.dumps(cursor)
    return base64.urlsafe_b64encode(_digest(query, body) + body).decode().rstrip("=")


def read_page_token(
    violations: Violations, query: tuple[Any, ...], token: str, shape: tuple[type[int] | type[str], ...]
) -> tuple[Any, ...] | None:
    """Return the cursor of a token, None for the first page. A bad token is blamed on ``page_token``.

    ``shape`` are the types of the cursor's parts. The digest keeps no secret, so whoever makes up a token with a right
    one must not get any further than to another page.
    """
    if not token:
        return None
    try:
        if len(token) > _TOKEN_CHARS_MAX:
            raise ValueError("too long")
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        cursor = tuple(orjson.loads(raw[_DIGEST_BYTES:]))
        if page_token(query, cursor) != token:
            raise ValueError("of another query, or altered")
        if tuple(map(type, cursor)) != shape or any(
            type(n) is int and not -(1 << 63) <= n < 1 << 63 for n in cursor
        ):
            raise ValueError("made up")
        return cursor
    except (ValueError, TypeError):
        violations.add_violation(
            "page_token",
            "must be the next_page_token of the same query, unchanged; leave it empty to start over",
        )
        return None


async def fill(found: Sequence[T], convert: Callable[[T], M]) -> list[M]:
    """Convert values to messages until the page is full. A page has at least one item if there is one.

    Yields to the event loop now and then, so that a large page does not delay other calls.
    """
    items: list[M] = []
    room = PAGE_BYTES_MAX
    for number, value in enumerate(found, 1):
        item = convert(value)
        room -= item.ByteSize()
        if room < 0 and items:
            break
        items.append(item)
        if number % ITEMS_PER_TURN_MAX == 0:
            await asyncio.sleep(0)
    return items


def _digest(query: tuple[Any, ...], body: bytes) -> bytes:
    return hashlib.blake2b(orjson.dumps(query) + b"\0" + body, digest_size=_DIGEST_BYTES).digest()
