"""Reads the pages of the documentation and the cells of their tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]


def text_of(page: str) -> str:
    """Return a page by its path in the repository."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def table(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a second-level heading, without the table's head."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n?)+)", section, flags=re.MULTILINE)
    assert found is not None, f"no table under {heading!r}"
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in found[1].splitlines()]
