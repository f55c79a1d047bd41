"""The store that a database URL names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from perdure_server.store.protocol import Store
from perdure_server.store.sqlite import SqliteStore

_SQLITE: Final = "sqlite:///"
_MEMORY: Final = ":memory:"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_FORMS: Final = "use sqlite:///relative/path.db, sqlite:////absolute/path.db or :memory:"


class DatabaseUrlError(ValueError):
    """A database URL that is invalid. The part of the text after "; " is the hint."""


def open_store(url: str, *, clock: Callable[[], int] | None = None) -> Store:
    """Return the store that a URL names. Open it with `Store.open`.

    ``clock`` returns milliseconds since the epoch, by default this machine's. Raises `DatabaseUrlError`.
    """
    return SqliteStore(path_of(url), clock=clock)


def absolute_url(url: str) -> str:
    """Return the same database's URL with an absolute path. Raises `DatabaseUrlError`."""
    path = path_of(url)
    return _MEMORY if path is None else _AbsoluteUrl(f"{_SQLITE}{os.path.abspath(path)}")


class _AbsoluteUrl(str):
    """A URL that was checked before the working folder became a part of it, whose name can have any character."""

    __slots__ = ()


def path_of(url: str) -> str | None:
    """Return the path of the file that a URL names, None for a database in memory. Raises `DatabaseUrlError`."""
    if url in (_MEMORY, f"{_SQLITE}{_MEMORY}"):
        return None
    if isinstance(url, _AbsoluteUrl):
        return url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE):
        raise DatabaseUrlError(f"{url!r} is not a database URL; {_hint(url)}")
    path = url.removeprefix(_SQLITE)
    if not path.isprintable() or path != path.strip():
        raise DatabaseUrlError(f"database URL {url!r} has control characters or spaces around it; {_FORMS}")
    for mark, part in (("?", "a query"), ("#", "a fragment")):
        if mark in path:
            plain = url.partition(mark)[0]
            raise DatabaseUrlError(
                f"database URL {url!r} has {part}, which perdure does not support; use {plain!r}, "
                f"or rename a file that has {mark!r} in its name"
            )
    if _ESCAPE.search(path):
        raise DatabaseUrlError(
            f"database URL {url!r} has a percent-escape, which perdure does not decode; write the path as it is"
        )
    if not path.strip("/") or path.endswith("/"):
        raise DatabaseUrlError(f"database URL {url!r} does not name a file; {_FORMS}")
    if path.startswith("//"):
        raise DatabaseUrlError(
            f"database URL {url!r} has more than four slashes; use {_SQLITE + '/' + path.lstrip('/')!r}"
        )
    if os.path.basename(path) in (".", ".."):
        raise DatabaseUrlError(f"database URL {url!r} names a directory; name a file in it")
    return path


def _hint(url: str) -> str:
    scheme = _SCHEME.match(url)
    if not url.strip():
        return _FORMS
    if scheme is None:
        # This assumes a file name. If it is not one, the URL with it is rejected in its turn.
        return f"use '{_SQLITE}{url}' for the file {url}"
    if scheme[1].lower() == "sqlite":
        rest = url[scheme.end() :]
        if rest.strip("/"):
            slashes = len(rest) - len(rest.lstrip("/"))
            path = rest.strip("/")
            return (
                f"use '{_SQLITE}{path}' (relative) or '{_SQLITE}/{path}' (absolute)"
                if slashes != 1
                else (f"use '{_SQLITE}/{path}'")
            )
        return _FORMS
    if scheme[1].lower() == "file":
        path = re.sub(r"^/{2,}", "/", url[scheme.end() :].partition("?")[0])
        return f"use '{_SQLITE}{path}'" if path.strip("/") else _FORMS
    return f"the scheme {scheme[1]!r} is not supported; {_FORMS}"
