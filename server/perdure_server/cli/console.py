"""Output of all commands, escaped, so that text from outside cannot control the terminal.

A payload, a failure's text, a label or an ID can contain escape sequences, line breaks or characters that change the
reading direction. They are printed as escapes, so that a line stays one line. JSON output uses JSON's own escapes,
which keep the value.

Owns: escaping, and all calls of ``print``. Must not: format output (`perdure_server.cli.render` does).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

_UNSAFE: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1 controls
    "\u00ad\u061c\u180e\u200b\u200e\u200f"  # invisible, or marks of direction; U+200C and U+200D belong to scripts
    "\u2028-\u202e\u2060-\u206f"  # line breaks, embeddings, overrides, isolates
    "\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # invisible controls of shorthand and music
    "\U000e0000-\U000e0fff"  # tags and other ignorable characters
    "\ud800-\udfff"
    "]"
)
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """Return a text with an escape, such as ``\\x1b``, for each character that is not safe to print."""
    return _UNSAFE.sub(_text_escape, text)


def escape_json(text: str) -> str:
    """Return JSON on one line, with JSON escapes for unsafe characters and spaces for line breaks between tokens."""
    return _UNSAFE.sub(_json_escape, text)


def print_line(line: str) -> None:
    """Print one line and flush."""
    print(escape(line), flush=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines and flush."""
    for line in lines:
        print(escape(line))
    sys.stdout.flush()


def print_table_lines(lines: Iterable[str]) -> None:
    """Print lines with escaped cells as they are. They can contain terminal styles."""
    print("\n".join(lines).rstrip("\n"), flush=True)


def print_json_line(text: str) -> None:
    """Print a JSON document on one line and flush."""
    print(escape_json(text), flush=True)


def warn(line: str) -> None:
    """Print one line to standard error and flush."""
    print(escape(line), file=sys.stderr, flush=True)


def warn_json(text: str) -> None:
    """Print a JSON document to standard error and flush."""
    print(escape_json(text), file=sys.stderr, flush=True)


def _text_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in "\n\r\t":
        return " "  # between tokens; inside strings they are escapes
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
