"""The table of scenarios: its parser, and the comparison of responses with it.

Must not: start processes or open connections.

README.md in this directory defines the format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

SCENARIOS: Final = Path(__file__).parent / "scenarios"

OPS: Final = frozenset(
    """
    start_instance resume schedule_resume
    get_instance list_instances list_history cancel_instance retry_instance
    get_timer list_timers cancel_timer fire_timer
    get_workflow list_workflows
    backup_database
    watch_open watch_next watch_close
    """.split()
)
DEEDS: Final = frozenset(
    """
    kill_server start_server drain_server cut_connections await_state fill_inbox fill_timers fault speak_newer
    empty_pages sent
    """.split()
)
WORLDS: Final = frozenset({"plain", "front", "tls"})

RESERVED: Final[Mapping[str, str]] = {
    "WORKFLOW_INVALID": "definitions come from the code that is served; no call brings one",
    "REVISION_COMPACTED": "histories are kept whole",
    "LEASE_LOST": "only a worker holds a lease, and there is no WorkerService yet",
}
"""Reasons that a server of this version never returns, and the cause. The fault proxy returns each to every client."""

BAD_DAYS: Final[Mapping[str, str]] = {
    "OVERLOADED": "requires more callers than a test has",
    "DATABASE_UNAVAILABLE": "requires a missing database",
    "COMMIT_UNKNOWN": "requires a commit whose result is lost",
    "BACKUP_FAILED": "requires a full or broken disk",
    "SHUTTING_DOWN": "occurs only during a short drain, and the clients reconnect to the next server themselves",
}
"""Reasons that a real server returns only during outages. The fault proxy returns them here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a scenario: a call (``op``) or something that happens to the server or the network (``do``)."""

    what: str
    is_call: bool
    args: Mapping[str, Any]
    expect: Any = None
    error: Mapping[str, Any] | None = None
    collect: int | str | None = None
    times: int = 1
    meanwhile: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    file: str
    world: str
    steps: tuple[Step, ...]

    @property
    def calls(self) -> list[Step]:
        """All calls, including those that run in parallel to other steps."""
        return [step for step in self.steps if step.is_call]


class BadTable(Exception):
    """The table itself is wrong."""


def scenarios() -> list[Scenario]:
    """Return the table, in order of its files."""
    found = [
        _scenario(raw, path.stem)
        for path in sorted(SCENARIOS.glob("*.yaml"))
        for raw in yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    ]
    names = [scenario.name for scenario in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadTable(f"these are defined twice: {sorted(twice)}")
    return found


class _Loader(yaml.SafeLoader):
    """YAML's safe values and ``!repeat``."""


def _repeat(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.MappingNode)
    parts = loader.construct_mapping(node)
    return (
        str(parts.get("before", "")) + str(parts["text"]) * int(parts["times"]) + str(parts.get("after", ""))
    )


_Loader.add_constructor("!repeat", _repeat)


def _scenario(raw: Mapping[str, Any], file: str) -> Scenario:
    world = raw.get("world", "plain")
    if set(raw) - {"scenario", "world", "steps"} or world not in WORLDS:
        raise BadTable(f"{file}: {raw.get('scenario')}: has an unknown key or world")
    return Scenario(
        name=raw["scenario"],
        file=file,
        world=world,
        steps=tuple(
            _step(step, f"{file}: {raw['scenario']}, step {n}") for n, step in enumerate(raw["steps"], 1)
        ),
    )


def _step(raw: Mapping[str, Any], place: str) -> Step:
    unknown = set(raw) - {"op", "do", "args", "expect", "error", "collect", "times", "meanwhile"}
    what = raw.get("op") or raw.get("do") or ""
    if unknown or ("op" in raw) == ("do" in raw) or what not in (OPS if "op" in raw else DEEDS):
        raise BadTable(f"{place}: {sorted(unknown) or what!r} is not defined")
    return Step(
        what=what,
        is_call="op" in raw,
        args=raw.get("args") or {},
        expect=raw.get("expect"),
        error=raw.get("error"),
        collect=raw.get("collect"),
        times=raw.get("times", 1),
        meanwhile=tuple(_step(step, place) for step in raw.get("meanwhile", ())),
    )


# --- names and matching ------------------------------------------------------------------------------------------

_NAMED: Final = re.compile(r"\$(?:\$|(?P<bare>[a-z_]\w*)|\{(?P<braced>[a-z_]\w*)\})")
_WHOLE: Final = re.compile(r"\$(?P<name>[a-z_]\w*)")
ANYTHING: Final = "$_"


@dataclass(slots=True)
class Names:
    """Names that a scenario has captured so far, with their values."""

    values: dict[str, Any] = field(default_factory=dict)

    def filled(self, value: Any) -> Any:
        """Return a value with every ``$name`` in it replaced; ``$$`` is a dollar."""
        match value:
            case str():
                if (whole := _WHOLE.fullmatch(value)) is not None:
                    return self._value_of(whole["name"])
                return _NAMED.sub(self._text_of, value)
            case dict():
                return {key: self.filled(item) for key, item in value.items()}
            case list():
                return [self.filled(item) for item in value]
            case _:
                return value

    def _text_of(self, found: re.Match[str]) -> str:
        name = found["bare"] or found["braced"]
        return "$" if name is None else str(self._value_of(name))

    def _value_of(self, name: str) -> Any:
        if name not in self.values:
            raise BadTable(f"${name} was never captured")
        return self.values[name]

    def differences(self, expected: Any, got: Any, place: str = "") -> list[str]:
        """Compare, and capture what a ``$name`` that is new stands for. Returns one line for each difference.

        A mapping may have more keys than are expected; a list has exactly the items expected, in order.
        """
        match expected:
            case str() if expected == ANYTHING:
                return []
            case str() if (whole := _WHOLE.fullmatch(expected)) is not None and whole[
                "name"
            ] not in self.values:
                self.values[whole["name"]] = got
                return []
            case str():
                return _unequal(self.filled(expected), got, place)
            case dict() if isinstance(got, dict):
                missing = [f"{place}.{key}: is missing" for key in expected if key not in got]
                return missing + [
                    line
                    for key, item in expected.items()
                    if key in got
                    for line in self.differences(item, got[key], f"{place}.{key}")
                ]
            case list() if isinstance(got, list):
                if len(expected) != len(got):
                    return [f"{place}: has {len(got)} items, not {len(expected)}: {_short(got)}"]
                return [
                    line
                    for index, (item, other) in enumerate(zip(expected, got, strict=True))
                    for line in self.differences(item, other, f"{place}[{index}]")
                ]
            case _:
                return _unequal(expected, got, place)


def same(expected: Any, got: Any) -> list[str]:
    """Compare two clients' answers. Returns one line for each difference."""
    return Names({}).differences(_literal(expected), got)


def _literal(value: Any) -> Any:
    match value:
        case str():
            return value.replace("$", "$$")
        case Mapping():
            return {key: _literal(item) for key, item in value.items()}
        case Sequence():
            return [_literal(item) for item in value]
        case _:
            return value


def _unequal(expected: Any, got: Any, place: str) -> list[str]:
    # 1 and true are equal in Python, and are not in JSON.
    if type(expected) is type(got) and expected == got:
        return []
    return [f"{place}: is {_short(got)}, not {_short(expected)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
