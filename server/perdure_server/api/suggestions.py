"""Names that are near one that is not there, for a message. Bounded: who calls with wrong names must cost little."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable
from os.path import commonprefix
from typing import Final

COMPARED_MAX: Final = 20
"""How many names are compared in full, which takes a tenth of a millisecond for long ones."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three of ``known`` that ``name`` was perhaps meant to be, the nearest first."""
    # Whoever mistypes a name gets its beginning or its end right: those that share most are compared.
    likely = heapq.nlargest(COMPARED_MAX, known, key=lambda other: _shared_ends(name, other))
    return difflib.get_close_matches(name, likely)


def _shared_ends(one: str, other: str) -> int:
    pairs = ((one, other), (one[::-1], other[::-1]))
    return sum(len(commonprefix(pair)) for pair in pairs)  # noqa: RUF071 - character by character is what is wanted
