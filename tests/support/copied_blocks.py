"""Blocks of documentation pages that are copies of blocks in the READMEs of the clients, which their tests compile.

    PYTHONPATH=tests python -m support.copied_blocks      # copy them again

A mark on the line before a block names the README and the section whose first block of the language is copied::

    <!-- copy: clients/go/README.md Watch an instance -->
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
COMMAND: Final = "PYTHONPATH=tests .venv/bin/python -m support.copied_blocks"

_COPY: Final = re.compile(
    r"(^<!-- copy: (\S+) (.+?) -->\n```(\w+)\n)(.*?)(^```$)", flags=re.MULTILINE | re.DOTALL
)


def copied(page: str) -> str:
    """Return the text of a page with its copied blocks as they are in the READMEs now. Raises ``ValueError``."""
    return _COPY.sub(lambda found: found[1] + _block(found[2], found[3], found[4]) + found[6], page)


def pages() -> list[Path]:
    """Return the pages with copied blocks."""
    return [path for path in sorted(REPOSITORY.glob("docs/**/*.md")) if _COPY.search(path.read_text("utf-8"))]


def _block(readme: str, heading: str, language: str) -> str:
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"no block of {language} under {heading!r} in {readme}")
    return found[1]


if __name__ == "__main__":
    for path in pages():
        path.write_text(copied(path.read_text(encoding="utf-8")), encoding="utf-8")
