"""Similar names for messages about unknown names. The work is limited, so that wrong names cost little."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable
from os.path import commonprefix
from typing import Final

COMPARED_MAX: Final = 20
"""Maximum number of names that are compared in full. This takes 0.1 ms for long names."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three names of ``known`` that are similar to ``name``, the most similar first."""
    # Mistyped names usually have the right beginning or end, so the names that share most of them are compared.
    likely = heapq.nlargest(COMPARED_MAX, known, key=lambda other: _shared_ends(name, other))
    return difflib.get_close_matches(name, likely)


def _shared_ends(one: str, other: str) -> int:
    pairs = ((one, other), (one[::-1], other[::-1]))
    return sum(len(commonprefix(pair)) for pair in pairs)  # noqa: RUF071 - character by character is what is wanted
