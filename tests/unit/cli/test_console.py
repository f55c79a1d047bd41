"""The output of all commands is escaped in one place."""

from __future__ import annotations

import ast
import json
import sys
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure_server.cli
from perdure.client import InstanceFailed, StepFailure, facts
from perdure.model.payloads import RawJson
from perdure_server.cli.console import escape, escape_json, print_line
from perdure_server.cli.errors import CommandError
from perdure_server.cli.render import document, entry_line, one_line, print_table, raw_json

JOINERS = "\u200c\u200d"
HOSTILE = (
    "\x1b[2J\x9b31m\r\n    7  forged\u202e\u2066\u2028\u0085\x7f\x00\U000e0041[bold red]x[/]\u200f\ufeff"
)


def is_safe(text: str) -> bool:
    # Lone surrogates are Cs; a space is Zs; U+200C and U+200D (Cf) belong to scripts.
    return all(
        character in JOINERS or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        for character in text
    )


VISIBLE = frozenset(
    (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440))
)
"""Signs of Arabic, Syriac, Kaithi and Egyptian that Unicode counts among the format characters."""


def test_no_character_that_is_not_printed_as_itself_remains() -> None:
    codes = [*range(sys.maxunicode + 1)]

    assert [hex(code) for code in codes if code not in VISIBLE and not is_safe(escape(chr(code)))] == []


def test_every_control_and_direction_character_is_an_escape() -> None:
    codes = [
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        0x200E,
        0x200F,
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    ]

    assert [code for code in codes if not is_safe(escape(chr(code)))] == []
    assert [code for code in codes if not is_safe(escape_json(chr(code)))] == []


def test_texts_of_every_script_are_printed_as_they_are() -> None:
    for text in ("naïve", "می\u200cخواهم", "ക്\u200d", "日本語", "👩\u200d💻", "Ω≈ç√", r"a \ b"):
        assert escape(text) == text


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_keeps_its_value(value: object) -> None:
    text = escape_json(json.dumps(value, ensure_ascii=False, indent=1))

    assert json.loads(text) == value
    assert is_safe("".join(character for character in text if ord(character) not in VISIBLE))


def test_hostile_text_is_printed_as_one_safe_line(capsys: pytest.CaptureFixture[str]) -> None:
    failure = StepFailure(type=HOSTILE, message=HOSTILE, attempts=1)
    fact: facts.Fact = InstanceFailed(step_ref="work", failure=failure, interrupted_steps=())
    entry = facts.HistoryEntry(
        revision=6, time=datetime(2026, 1, 2, tzinfo=UTC), kind="failed", fact=fact, request_id=""
    )
    print_line(entry_line(entry))
    print_line(one_line(HOSTILE, HOSTILE))
    print_line(raw_json(HOSTILE))
    print_line(raw_json(RawJson(json.dumps({HOSTILE: HOSTILE}, ensure_ascii=False))))
    print_line(document({HOSTILE: RawJson(json.dumps(HOSTILE, ensure_ascii=False))}))
    CommandError(HOSTILE, hint=HOSTILE, issues=[HOSTILE]).report(as_json=False)
    CommandError(HOSTILE, hint=HOSTILE, issues=[HOSTILE]).report(as_json=True)
    out, err = capsys.readouterr()

    assert [out.count("\n"), err.count("\n")] == [5, 4]
    assert is_safe((out + err).replace("\n", ""))
    assert "forged" in out


def test_a_hostile_cell_stays_in_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "KEY"), [("i1", HOSTILE), (HOSTILE, "k")])
    out = capsys.readouterr().out

    assert out.count("\n") == 3
    assert is_safe(out.replace("\n", ""))
    assert "[bold red]" in out


def printers() -> Iterator[str]:
    for path in sorted(Path(perdure_server.cli.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                *("print", "click.echo", "click.secho"),
                *("sys.stdout.write", "sys.stderr.write"),
            }:
                yield f"{path.name}:{node.lineno}"


def test_only_the_console_module_prints() -> None:
    assert {place.partition(":")[0] for place in printers()} == {"console.py"}
