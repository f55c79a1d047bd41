"""Recorded histories as files: how they are written, read and compared.

A file holds the graph, the history as a store keeps it, and the state that it folds to. Of the state, a comparison
looks at what was recorded: a field that came later is none of an old file's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import orjson

from perdure.model.graph import to_json
from perdure_server.engine.facts import KIND_OF, Entry, fact_from_json
from perdure_server.engine.state import State
from simulation.instance import Instance

FOLDER = Path(__file__).parent
VERSION = "v1"
"""The folder that new files go to: one per major version of what is stored."""


def files() -> list[Path]:
    """Every recorded history of every version."""
    return sorted(FOLDER.glob("v*/*.json"))


def record(name: str, about: str, instance: Instance, folder: Path) -> Path | None:
    """Write a new file and return its path; None where there is one already, which stays as it is."""
    path = folder / f"{name}.json"
    whole = {
        "about": about,
        "instance_id": instance.state.instance_id,
        "graph": to_json(instance.graph),
        "history": [_entry_to_json(entry) for entry in instance.judge.history],
        "state": plain(instance.state),
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(whole, file, indent=1, sort_keys=True, ensure_ascii=False)
            file.write("\n")
    except FileExistsError:
        return None
    return path


def history_of(recorded: Mapping[str, Any]) -> list[Entry]:
    """The entries of a file."""
    return [
        Entry(item["revision"], item["at"], fact_from_json(item["kind"], item["fact"]), item["request_id"])
        for item in recorded["history"]
    ]


def plain(value: Any) -> Any:
    """A state as JSON values; a dataclass says its name under `_`."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {
            "_": type(value).__name__,
            **{f.name: plain(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def differences(recorded: Any, found: Any, where: str = "state") -> Iterator[str]:
    """What of a recorded state is not as it was."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        # An object may have got new fields; a mapping of steps or timers may not have got new members.
        if "_" not in recorded and recorded.keys() != found.keys():
            yield f"{where} has {sorted(found)}, not {sorted(recorded)}"
        for key in recorded.keys() & found.keys():
            yield from differences(recorded[key], found[key], f"{where}.{key}")
        for key in recorded.keys() - found.keys():
            yield f"{where}.{key} is gone"
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for index, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif recorded != found:
        yield f"{where} is {found!r}, not {recorded!r}"


def folded(state: State | None) -> Any:
    """A state as it would be recorded, through JSON."""
    return json.loads(json.dumps(plain(state)))


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "revision": entry.revision,
        "at": entry.at,
        "kind": KIND_OF[type(entry.fact)],
        "fact": orjson.loads(orjson.dumps(entry.fact)),
        "request_id": entry.request_id,
    }
