"""Writes the table of errors in docs/api.md from the server's error table. ``make generate`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from perdure_server.api.error_table import TABLE, ErrorRow

PAGE: Final = Path(__file__).resolve().parent / "api.md"
START: Final = "<!-- error table, written by docs/error_table.py -->\n"
END: Final = "<!-- end: error table -->\n"


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| reason | status | meaning | metadata | what to do |", "|---|---|---|---|---|"]
    lines += [
        f"| `{row.reason}` | {row.code.name} | {row.meaning} | {_metadata(row)} | {_sentence(row.hint)} |"
        for row in TABLE.values()
    ]
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the text of the page with the current table between its markers."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{PAGE.name} does not have the markers of the error table")
    return f"{before}{START}{table()}{END}{after}"


def _metadata(row: ErrorRow) -> str:
    always = ", ".join(f"`{key}`" for key in row.metadata)
    optional = ", ".join(f"`{key}`" for key in row.optional)
    return "; sometimes ".join(filter(None, (always, optional)))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
