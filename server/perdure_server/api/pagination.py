"""Pages of lists, and the tokens that continue them.

A token is opaque to clients and bound to its query. It has a cursor and a digest of the cursor and the query, so that
a token that was changed, or that belongs to another list, is rejected instead of showing the wrong page. The digest is
not a secret and does not protect anything.
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
"""Maximum size of a page in bytes, whatever its number of items. Many clients reject messages above 4 MiB."""

ITEMS_PER_TURN_MAX: Final = 50
"""Maximum number of items that are converted in one turn of the event loop, about half a millisecond."""

_DIGEST_BYTES: Final = 12
_TOKEN_CHARS_MAX: Final = 2_000


def page_token(query: tuple[Any, ...], cursor: tuple[Any, ...]) -> str:
    """Return the token of the page after ``cursor``."""
    body = orjson.dumps(cursor)
    return base64.urlsafe_b64encode(_digest(query, body) + body).decode().rstrip("=")


def read_page_token(
    violations: Violations, query: tuple[Any, ...], token: str, shape: tuple[type[int] | type[str], ...]
) -> tuple[Any, ...] | None:
    """Return the cursor of a token, or None for the first page. An invalid token is a violation of ``page_token``.

    ``shape`` has the types of the cursor's parts. Clients can make up a token with a valid digest, so the types are
    checked too. Such a token only leads to another page.
    """
    if not token:
        return None
    try:
        if len(token) > _TOKEN_CHARS_MAX:
            raise ValueError("the token is too long")
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        cursor = tuple(orjson.loads(raw[_DIGEST_BYTES:]))
        if page_token(query, cursor) != token:
            raise ValueError("the token was changed or belongs to another query")
        if tuple(map(type, cursor)) != shape or any(
            type(n) is int and not -(1 << 63) <= n < 1 << 63 for n in cursor
        ):
            raise ValueError("the cursor is invalid")
        return cursor
    except (ValueError, TypeError):
        violations.add_violation(
            "page_token",
            "must be the next_page_token of the same query, unchanged; leave it empty to start over",
        )
        return None


async def fill(found: Sequence[T], convert: Callable[[T], M]) -> list[M]:
    """Convert values to messages until the page is full. A page has at least one item if there is one.

    Yields to the event loop regularly, so that a large page does not delay other calls.
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


async def fill_page(
    found: Sequence[T],
    convert: Callable[[T], M],
    *,
    limit: int,
    query: tuple[Any, ...],
    cursor_of: Callable[[T], tuple[Any, ...]],
    next_cursor: tuple[Any, ...] | None = None,
) -> tuple[list[M], str]:
    """Convert at most ``limit`` values to the messages of a page. Returns them and the token of the next page.

    The token is empty on the last page. There is a next page if ``found`` has more values than fit, or if
    ``next_cursor`` is given. ``cursor_of`` returns the cursor of the page after a value.
    """
    items = await fill(found[:limit], convert)
    if len(items) < len(found):
        next_cursor = cursor_of(found[len(items) - 1])
    return items, "" if next_cursor is None else page_token(query, next_cursor)


def _digest(query: tuple[Any, ...], body: bytes) -> bytes:
    return hashlib.blake2b(orjson.dumps(query) + b"\0" + body, digest_size=_DIGEST_BYTES).digest()
