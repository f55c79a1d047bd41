"""Writes the blocking client from the asyncio client: ``clients/python/generate_sync.py [OUT_DIR]``.

Reads ``perdure/client/_async_client.py`` and writes ``OUT_DIR/perdure/client/_sync_client.py`` (default: next to its
source). Needs only the standard library, so that every environment generates the same file.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
SOURCE: Final = Path("perdure/client/_async_client.py")
TARGET: Final = Path("perdure/client/_sync_client.py")

HEADER: Final = "# Generated from _async_client.py by clients/python/generate_sync.py. Do not edit.\n"

TEXTS: Final = {
    """`AsyncClient`: the API of perdure for asyncio.

``clients/python/generate_sync.py`` generates the blocking `Client` in ``_sync_client.py`` from this file. Edit only
this file, then run ``make generate``.
""": """`Client`: the API of perdure for code without asyncio.
""",
    """A connection to a perdure server, for one event loop. Implements `perdure.runner.Runner`.
""": """A connection to a perdure server, for any number of threads. `AsyncClient` without ``await``.

    After a fork, the child can use the client and opens its own connections. Watches stay with the parent.
""",
}
"""Texts that differ between the clients. Each must occur exactly once in the source."""

WORDS: Final = {
    "AsyncClient": "Client",
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "AsyncTransport": "Transport",
    "GrpcAioTransport": "GrpcTransport",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "_grpc_aio": "_grpc_sync",
    "aclosing": "closing",
    "asyncio": "time",
}
"""Names that differ between the clients."""


def to_sync(source: str) -> str:
    """Return the source of the blocking client.

    Raises:
        ValueError: A text of `TEXTS` does not occur exactly once, or asynchronous code is left over.
    """
    kept: dict[str, str] = {}
    for index, (text, replacement) in enumerate(TEXTS.items()):
        if source.count(text) != 1:
            raise ValueError(f"the source contains this text {source.count(text)} times, not once: {text!r}")
        # A placeholder keeps the replacement out of the reach of the rules below.
        placeholder = f"\0{index}\0"
        kept[placeholder] = replacement
        source = source.replace(text, placeholder)
    source = re.sub(r"\basync (?=def |for |with )", "", source)
    source = re.sub(r"\bawait ", "", source)
    names = "|".join(map(re.escape, WORDS))
    source = re.sub(rf"(?<!\w)({names})(?!\w)", lambda found: WORDS[found[1]], source)
    if leftover := re.search(r".*(async|await|aio\b).*", source, re.IGNORECASE):
        raise ValueError(f"asynchronous code is left over: {leftover[0].strip()}")
    for placeholder, replacement in kept.items():
        source = source.replace(placeholder, replacement)
    ast.parse(source)
    return HEADER + source


def main(out: Path) -> None:
    """Write the blocking client below a directory."""
    target = out / TARGET
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(to_sync((HERE / SOURCE).read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
