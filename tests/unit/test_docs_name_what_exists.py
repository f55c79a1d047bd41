"""The documents send a reader to files: each one that they name is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in REPOSITORY.glob("docs/*.md")),
)
_PLACE: Final = re.compile(r"`((?:tests|server|clients|docs|examples|benchmarks|proto)/[\w./*-]+)`")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    places = _PLACE.findall((REPOSITORY / document).read_text())

    assert [place for place in places if not any(REPOSITORY.glob(place.rstrip("/")))] == []


def test_every_promise_has_tests_but_the_one_that_needs_replicas() -> None:
    page = (REPOSITORY / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (\d)\. .*\| (.*) \|$", page, flags=re.MULTILINE)

    assert [int(number) for number, _ in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [number for number, tests in rows if not _PLACE.search(tests)] == ["8"]
