"""Files, tests and pages that the documentation names exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from support import copied_blocks

REPOSITORY: Final = Path(__file__).resolve().parents[3]
DOCUMENTS: Final = (
    "README.md",
    "CONTRIBUTING.md",
    *(path.relative_to(REPOSITORY).as_posix() for path in sorted(REPOSITORY.glob("docs/**/*.md"))),
)

_TEST: Final = re.compile(r"`(tests/[\w./]+\.py)::(\w+)`")
_PLACE: Final = re.compile(r"`((?:tests|server|clients|docs|examples|benchmarks|proto)/[\w./*-]+)`")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_page_names_exists(document: str) -> None:
    places = _PLACE.findall((REPOSITORY / document).read_text())

    assert [place for place in places if not any(REPOSITORY.glob(place.rstrip("/")))] == []


def test_every_test_that_a_page_names_exists() -> None:
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


def test_every_promise_has_its_words_and_its_tests() -> None:
    page = (REPOSITORY / "docs/promises.md").read_text()
    sections = re.findall(r"^## (\d)\. .*\n((?:(?!^## ).*\n)*)", page, flags=re.MULTILINE)

    assert [int(number) for number, _ in sections] == [1, 2, 3, 4, 5, 6, 7, 8]
    for number, text in sections:
        assert re.search(r"^> ", text, flags=re.MULTILINE), number
        assert _TEST.search(text), number
        assert ("**Not kept yet:**" in text) == (number == "8")


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md", "examples/deploy/README.md"])
def test_every_link_to_a_page_or_a_heading_works(document: str) -> None:
    source = REPOSITORY / document
    lost = []
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", source.read_text()):
        path, _, anchor = target.partition("#")
        page = (source.parent / path).resolve() if path else source
        if not page.exists() or (anchor and anchor not in anchors(page)):
            lost.append(target)

    assert lost == []


def anchors(page: Path) -> set[str]:
    """Return the anchors that Markdown hosts give to headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()

    assert [page for page in DOCUMENTS if page.startswith("docs/") and f"({page})" not in readme] == []


@pytest.mark.parametrize("page", copied_blocks.pages(), ids=lambda page: page.stem)
def test_copied_blocks_are_current(page: Path) -> None:
    text = page.read_text()

    assert copied_blocks.copied(text) == text, f"run: {copied_blocks.COMMAND}"


def test_the_pages_of_other_languages_copy_compiled_code() -> None:
    assert [page.stem for page in copied_blocks.pages()] == ["go", "java", "typescript"]
    with pytest.raises(ValueError, match="no block of go under 'Missing'"):
        copied_blocks.copied("<!-- copy: clients/go/README.md Missing -->\n```go\nx\n```\n")
