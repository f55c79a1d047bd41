"""Words and constructions that the project's texts do not use.

    PYTHONPATH=tests python -m support.language                 # print the places to rewrite
    PYTHONPATH=tests python -m support.language docs/run.md     # the same for some files or directories

The exit code is 1 if there are any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from support.prose import REPOSITORY, Text, files, prose_of

QUOTING: Final = frozenset(
    {
        "tests/support/language.py",  # has the rules
        "tests/unit/docs/test_language.py",  # has sentences that break them
    }
)

TEST_NAME_CHARS_MAX: Final = 75


@dataclass(frozen=True, slots=True)
class Rule:
    """A construction that can be recognized, and the replacement to suggest."""

    pattern: re.Pattern[str]
    instead: str
    opening: bool = False


def _rule(pattern: str, instead: str, *, opening: bool = False) -> Rule:
    return Rule(re.compile(pattern), instead, opening)


RULES: Final = (
    _rule(r"\b[Mm]end(?:s|ed|ing)?\b", "fix, hint"),
    _rule(r"\b[Aa]new\b", "again"),
    _rule(r"\b[Tt](?:old|ells)\b", "return, log, report"),
    _rule(r"\bmakes? no sense\b", "is invalid"),
    _rule(r"\bWhat lives here\b|\bWhat may not\b", "Owns: ... Must not: ..."),
    _rule(r"\b(?:[Ww]hoever|[Nn]obody)\b", "the actor"),
    _rule(r"\b[Aa]rrows?\b", "transition"),
    _rule(r"\b[Vv]erbs?\b", "method"),
    _rule(r"\b[Ff]loors?\b", "layer, minimum version"),
    _rule(r"\b[Ll]anes?\b", "instance queue"),
    _rule(r"\b[Bb]eside\b", "in addition to, next to"),
    _rule(
        r"(?<!\b[Tt]here )\b(?:is|are|was|were|as|be) no (?!longer\b|more\b|less\b|fewer\b|later\b|earlier\b)(?=[\w`])",
        "negate the verb",
    ),
    _rule(r"\bfor ever\b", "indefinitely"),
    _rule(r"(?<![Cc]onnection )\b[Rr]efus(?:e|es|ed|ing|al|als)\b", "reject"),
    _rule(r"\b(?:[Gg]o|[Gg]oes|[Gg]oing|[Ww]ent|[Gg]one) on\b", "continue"),
    _rule(r"\b(?:[Bb]egin|[Bb]egins|[Bb]egan|[Bb]egun)\b", "start"),
    _rule(r"\b[Ss]tands\b(?! for)", "is"),
    _rule(r"\b[Ll]ook(?:s|ed|ing)? after\b", "monitor"),
    _rule(r"(?:How|What|Whether|Why|Where|When|Which|Who)\b", "a noun phrase or an imperative", opening=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A place to rewrite."""

    path: str
    line: int
    words: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.words!r} (instead: {self.instead})"


def hits_in(path: str, texts: Iterable[Text]) -> list[Hit]:
    """Return what breaks a rule in the texts of a file, in order of lines."""
    hits = []
    for text in texts:
        for rule in RULES:
            if rule.opening:
                found = [rule.pattern.match(text.text)] if text.opens else []
            else:
                found = list(rule.pattern.finditer(text.text))
            for match in filter(None, found):
                line = text.line + text.text.count("\n", 0, match.start())
                hits.append(Hit(path=path, line=line, words=match[0], instead=rule.instead))
        if text.test_name and len(text.text) > TEST_NAME_CHARS_MAX:
            hits.append(
                Hit(path=path, line=text.line, words=text.text, instead=f"{TEST_NAME_CHARS_MAX} characters")
            )
    return sorted(hits, key=lambda hit: hit.line)


def hits_of_repository() -> list[Hit]:
    """Return what breaks a rule in all files of the repository, in order of paths and lines."""
    hits: list[Hit] = []
    for file in files():
        path = file.relative_to(REPOSITORY).as_posix()
        if path not in QUOTING:
            hits += hits_in(path, prose_of(file))
    return hits


def main(arguments: list[str]) -> int:
    """Print the hits in files whose paths start with an argument (default: all files). Return 1 if there are any."""
    found = [hit for hit in hits_of_repository() if hit.path.startswith(tuple(arguments) or "")]
    for hit in found:
        print(hit)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
