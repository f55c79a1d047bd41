"""The documents send a reader to files: each one that they name is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[3]
DOCUMENTS: Final = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in REPOSITORY.glob("docs/*.md")),
)
BEING_WRITTEN: Final = REPOSITORY / "docs/performance.md"
"""A page that others point to before it is there."""

_TEST: Final = re.compile(r"`(tests/[\w./]+\.py)::(\w+)`")
_PLACE: Final = re.compile(r"`((?:tests|server|clients|docs|examples|benchmarks|proto)/[\w./*-]+)`")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    places = _PLACE.findall((REPOSITORY / document).read_text())

    assert [place for place in places if not any(REPOSITORY.glob(place.rstrip("/")))] == []


def test_every_test_that_a_document_names_is_there() -> None:
    named = {
        (document, place, test)
        for document in DOCUMENTS
        for place, test in _TEST.findall((REPOSITORY / document).read_text())
    }

    assert named
    assert [
        f"{document}: {place}::{test}"
        for document, place, test in sorted(named)
        if not (REPOSITORY / place).is_file()
        or not re.search(rf"^ *(?:async )?def {test}\(", (REPOSITORY / place).read_text(), flags=re.MULTILINE)
    ] == []


def test_every_promise_is_published_with_its_words_and_with_tests() -> None:
    page = (REPOSITORY / "docs/promises.md").read_text()
    sections = re.findall(r"^## (\d)\. .*\n((?:(?!^## ).*\n)*)", page, flags=re.MULTILINE)

    assert [int(number) for number, _ in sections] == [1, 2, 3, 4, 5, 6, 7, 8]
    for number, text in sections:
        assert re.search(r"^> ", text, flags=re.MULTILINE), number
        assert _TEST.search(text), number
        assert ("**Not kept yet:**" in text) == (number == "8")


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_every_link_to_a_page_or_to_a_part_of_one_leads_somewhere(document: str) -> None:
    source = REPOSITORY / document
    lost = []
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", source.read_text()):
        path, _, anchor = target.partition("#")
        page = (source.parent / path).resolve() if path else source
        if page == BEING_WRITTEN:
            continue
        if not page.exists() or (anchor and anchor not in anchors(page)):
            lost.append(target)

    assert lost == []


def anchors(page: Path) -> set[str]:
    """The names that hosts of Markdown give to headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
