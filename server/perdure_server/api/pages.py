"""Page tokens: where a list goes on, bound to the query that it belongs to.

A token is opaque to clients. It carries a cursor and a digest over both the cursor and the query, so that a token
that was altered, or taken from another list, is refused instead of showing the wrong page. It is no secret and guards
nothing.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import orjson

from perdure_server.runtime.fields import Check

_DIGEST_BYTES: Final = 12
_TOKEN_CHARS_MAX: Final = 2_000


def page_token(query: tuple[Any, ...], cursor: tuple[Any, ...]) -> str:
    """Return the token of the page behind ``cursor``."""
    body = orjson.dumps(cursor)
    return base64.urlsafe_b64encode(_digest(query, body) + body).decode().rstrip("=")


def read_page_token(check: Check, query: tuple[Any, ...], token: str) -> tuple[Any, ...] | None:
    """Return the cursor of a token, None for the first page. A bad token is blamed on ``page_token``."""
    if not token:
        return None
    try:
        if len(token) > _TOKEN_CHARS_MAX:
            raise ValueError("too long")
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        if digest != _digest(query, body) or page_token(query, tuple(orjson.loads(body))) != token:
            raise ValueError("of another query")
        return tuple(orjson.loads(body))
    except (ValueError, TypeError):
        check.blame(
            "page_token",
            "must be the next_page_token of the same query, unchanged; leave it empty to start over",
        )
        return None


def _digest(query: tuple[Any, ...], body: bytes) -> bytes:
    return hashlib.blake2b(orjson.dumps(query) + b"\0" + body, digest_size=_DIGEST_BYTES).digest()
