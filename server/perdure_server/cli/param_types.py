"""Parameter types of the command line: durations, JSON, KEY=VALUE pairs. An invalid value is a usage error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from perdure.model.durations import parse_duration_ms
from perdure.model.payloads import RawJson

PATH: Final = click.Path(path_type=Path)


class Seconds(click.ParamType[float]):
    """A duration such as ``30s``, as seconds. Digits without a unit are rejected as ambiguous."""

    name = "duration"

    def __init__(self, *, zero: bool = True) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the value in seconds."""
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration_ms(value) / 1000
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not seconds and not self._zero:
            self.fail("must be more than 0, as in '30s'", param, ctx)
        return seconds


TIMEOUT: Final = Seconds(zero=False)
"""A time limit. 0 is rejected, because it would end every call before it is sent."""


class Milliseconds(click.ParamType[int]):
    """A duration such as ``30s``, or digits that mean milliseconds. Gives milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the value in milliseconds."""
        if isinstance(value, int):
            return value
        try:
            if value.isascii() and value.isdigit() and len(value) <= 15:
                return int(value)
            return parse_duration_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Json(click.ParamType[RawJson]):
    """JSON text: the argument itself, the content of the file in ``@FILE``, or stdin for ``@-``. Text is kept."""

    name = "json"

    def __init__(self, *, must_be_object: bool = False) -> None:
        self._must_be_object = must_be_object

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the text for the help."""
        return "JSON|@FILE|@-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RawJson:
        """Return the text, if it is valid JSON."""
        if isinstance(value, RawJson):
            return value
        source = param.opts[0] if param is not None else "the value"
        text = value
        if text.startswith("@"):
            source = "stdin" if text == "@-" else text[1:]
            text = self._read(text[1:], param, ctx)
        try:
            # Only the kind of the value matters: numbers stay text, so that their size has no limit.
            found = json.loads(text, parse_constant=self._reject_constant, parse_int=str, parse_float=str)
        except click.UsageError:
            raise
        except ValueError as error:
            hint = """write it as in '{"text": "Hi"}', with double quotes around names and texts"""
            self.fail(f"{source} is not valid JSON: {error}; {hint}", param, ctx)
        except RecursionError:
            self.fail(f"{source} is nested too deeply", param, ctx)
        if self._must_be_object and not isinstance(found, dict):
            self.fail("must be a JSON object, as in '{\"items\": [1, 2]}'", param, ctx)
        return RawJson(text)

    def _read(self, name: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            body = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
            return body.decode()
        except OSError as error:
            self.fail(f"cannot read {name}: {error.strerror}", param, ctx)
        except UnicodeDecodeError:
            self.fail(f"{name} is not UTF-8", param, ctx)

    def _reject_constant(self, name: str) -> Any:
        raise ValueError(f"{name} is not a JSON value")


class KeyValue(click.ParamType[tuple[str, str]]):
    """A pair such as ``team=web``. ``what`` names it in errors."""

    name = "pair"

    def __init__(self, what: str) -> None:
        self._what = what

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the text for the help."""
        return "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not a {self._what}; write key=value", param, ctx)
        return key, text


LABEL: Final = KeyValue("label")


def labels_of(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return labels as a mapping. Two values for the same key are a usage error."""
    labels: dict[str, str] = {}
    for key, value in pairs:
        if labels.setdefault(key, value) != value:
            raise click.BadParameter(f"the label {key!r} is given twice", param_hint="--label")
    return labels


def epilog(*examples: str) -> str:
    """Return the end of a command's help: its examples, one per line."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExamples:\n{lines}" if len(examples) > 1 else f"\b\nExample:\n{lines}"
