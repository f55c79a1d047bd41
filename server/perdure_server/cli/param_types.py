"""What people type, as values: JSON from an argument, a file or stdin; labels; durations. Raises usage errors only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

from perdure.model.durations import parse_duration_ms
from perdure.model.payloads import RawJson


def json_of(text: str | None, option: str) -> RawJson | None:
    """Return JSON text, that of the file in ``@FILE``, or of stdin for ``@-``, as it is; None for no text."""
    return None if text is None else _json(text, option)[0]


def object_of(text: str | None, option: str) -> RawJson | None:
    """Return the text of a JSON object as `json_of` does."""
    if text is None:
        return None
    found, value = _json(text, option)
    if not isinstance(value, dict):
        raise typer.BadParameter("must be a JSON object, as in '{\"items\": [1, 2]}'", param_hint=option)
    return found


def _json(text: str, option: str) -> tuple[RawJson, Any]:
    """Return the text, and a value that only tells its kind: the text is what crosses the API."""
    source = option
    if text.startswith("@"):
        source = "stdin" if text == "@-" else text[1:]
        text = _read(text[1:], option)
    try:
        value = json.loads(
            text, parse_constant=lambda name: _refuse_constant(name, option), parse_int=str, parse_float=str
        )
    except ValueError as error:
        hint = """write it as in '{"text": "Hi"}', with double quotes around names and texts"""
        raise typer.BadParameter(f"{source} holds no JSON: {error}; {hint}", param_hint=option) from None
    except RecursionError:
        raise typer.BadParameter(f"{source} is nested too deep", param_hint=option) from None
    return RawJson(text), value


def labels_of(pairs: list[str], option: str = "--label") -> dict[str, str]:
    """Return ``key=value`` texts as a mapping."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r} is no label; write key=value", param_hint=option)
        if labels.setdefault(key, value) != value:
            raise typer.BadParameter(f"the label {key!r} is given twice", param_hint=option)
    return labels


def seconds_of(text: str, option: str) -> float:
    """Return a duration such as ``30s`` in seconds. Bare digits are refused: some would mean seconds by them."""
    try:
        return parse_duration_ms(text) / 1000
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def timeout_of(text: str, option: str) -> float:
    """Return a time limit in seconds. Rejects 0, which would end every call before it is sent."""
    seconds = seconds_of(text, option)
    if seconds == 0:
        raise typer.BadParameter("must be more than 0, as in '30s'", param_hint=option)
    return seconds


def duration_ms_of(text: str, option: str) -> int:
    """Return a duration such as ``30s``, or digits that mean milliseconds, in milliseconds."""
    try:
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else parse_duration_ms(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _read(name: str, option: str) -> str:
    try:
        body = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return body.decode()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {name}: {error.strerror}", param_hint=option) from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{name} is not UTF-8", param_hint=option) from None


def _refuse_constant(name: str, option: str) -> NoReturn:
    raise typer.BadParameter(f"JSON has no {name}", param_hint=option)
