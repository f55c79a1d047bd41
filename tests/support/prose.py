"""The prose of the repository: documentation, comments, docstrings, messages, help texts and test names.

Code spans and fenced blocks are not prose, and neither is generated code.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]

ROOTS: Final = ("docs", "examples", "proto", "server", "clients", "tests", "benchmarks", ".ci")
GENERATED: Final = frozenset(
    {"v1", "gen", "generated", "build", "dist", "target", "node_modules", "__pycache__"}
)
"""Names of directories that contain generated code or build output. `proto/perdure/v1` is source and is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of prose at a line of a file. ``opens``: it starts a docstring, a comment or a table cell."""

    line: int
    text: str
    opens: bool = False
    test_name: bool = False


def files() -> Iterator[Path]:
    """Yield every file that contains prose."""
    yield from (REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile"))
    for root in ROOTS:
        for path in sorted((REPOSITORY / root).rglob("*")):
            inside = path.relative_to(REPOSITORY)
            if path.suffix in _READERS and (root == "proto" or not GENERATED.intersection(inside.parts)):
                yield path


def prose_of(path: Path) -> list[Text]:
    """Return the prose of a file, without code spans and addresses."""
    source = path.read_text(encoding="utf-8")
    reader = _READERS.get(path.suffix, _hash_comments)
    return [
        Text(line=text.line, text=_without_code(text.text), opens=text.opens, test_name=text.test_name)
        for text in reader(source)
    ]


def _without_code(text: str) -> str:
    text = re.sub(r"``.+?``|`[^`]*`|\{@(?:code|link) [^}]*\}", "`code`", text, flags=re.DOTALL)
    return re.sub(r"https?://\S+|\]\([^)]*\)", "", text)


# --- Markdown ----------------------------------------------------------------------------------------------------


def _markdown(source: str) -> Iterator[Text]:
    source = re.sub(r"<!--.*?-->", lambda found: "\n" * found[0].count("\n"), source, flags=re.DOTALL)
    fenced = False
    paragraph: list[str] = []
    first = 0
    for number, line in enumerate([*source.splitlines(), ""], 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and line.startswith("|"):
            yield from (
                Text(line=number, text=cell.strip(), opens=True) for cell in line.strip("|").split("|")
            )
        elif not fenced and line.strip():
            first = first or number
            paragraph.append(line)
            continue
        if paragraph:  # Joined, so that a rule sees a phrase that continues on the next line.
            yield Text(line=first, text="\n".join(paragraph))
            paragraph, first = [], 0


# --- Python ------------------------------------------------------------------------------------------------------


def _python(source: str) -> Iterator[Text]:
    tree = ast.parse(source)
    docstrings = {
        id(node.value): node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    inside_f_strings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield Text(line=node.lineno, text=node.name.replace("_", " "), test_name=True)
        if isinstance(node, ast.JoinedStr):
            inside_f_strings |= {id(part) for part in node.values}
            parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
            if _is_message(text := "".join(parts)):
                yield Text(line=node.lineno, text=text)
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside_f_strings
        ):
            if id(node) in docstrings:
                yield Text(line=node.lineno, text=node.value, opens=True)
            elif _is_message(node.value):
                yield Text(line=node.lineno, text=node.value)
    comments = [
        (token.start[0], token.string, not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    yield from _joined(comments, "#")


def _is_message(text: str) -> bool:
    """Tell a sentence from a name, a format or a piece of code."""
    return len(re.findall(r"[A-Za-z]{2,}", text)) > 1 and " " in text.strip()


def _joined(comments: list[tuple[int, str, bool]], mark: str) -> Iterator[Text]:
    """Join comments on consecutive lines. Each item is a line, a comment and `True` if it is alone."""
    block: list[str] = []
    first = last = 0
    for number, comment, alone in [*comments, (-1, "", False)]:
        if block and not (alone and number == last + 1):
            yield Text(line=first, text="\n".join(block), opens=True)
            block = []
        if number >= 0:
            first = number if not block else first
            last = number
            block.append(comment.lstrip(mark + "/*!:-= ").rstrip("-= "))


# --- other languages ---------------------------------------------------------------------------------------------

_C_TOKEN: Final = re.compile(
    r"""//(?P<line>[^\n]*)|/\*(?P<block>.*?)\*/|"(?P<double>(?:\\.|[^"\\\n])*)"|`(?P<back>(?:\\.|[^`\\])*)`"""
    r"""|'(?P<single>(?:\\.|[^'\\\n])*)'""",
    flags=re.DOTALL,
)
_C_TEST: Final = re.compile(
    r"^func (Test\w+)\(|^ *(?:test|it)\(\s*[\"'`]([^\"'`]+)|@Test\s+(?:public )?void (\w+)", re.MULTILINE
)


def _c_like(source: str) -> Iterator[Text]:
    """Read Go, TypeScript, Java and proto: comments, strings and the names of tests."""
    comments: list[tuple[int, str, bool]] = []
    for found in _C_TOKEN.finditer(source):
        line = source.count("\n", 0, found.start()) + 1
        start = source.rfind("\n", 0, found.start()) + 1
        if found["line"] is not None:
            comments.append((line, found["line"], not source[start : found.start()].strip()))
        elif found["block"] is not None:
            text = re.sub(r"^\s*\*+ ?", "", found["block"], flags=re.MULTILINE).strip()
            yield Text(line=line, text=text, opens=True)
        elif _is_message(text := found["double"] or found["back"] or found["single"] or ""):
            yield Text(line=line, text=text)
    yield from _joined(comments, "/")
    for found in _C_TEST.finditer(source):
        name = found[1] or found[2] or found[3]
        words = name if " " in name else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
        yield Text(line=source.count("\n", 0, found.start()) + 1, text=words, test_name=True)


def _hash_comments(source: str) -> Iterator[Text]:
    """Read YAML, shell and make: comments, which include the help texts of targets."""
    yield from _comments(source, "#")


def _sql(source: str) -> Iterator[Text]:
    yield from _comments(source, "-")


def _comments(source: str, mark: str) -> Iterator[Text]:
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        match = re.search(rf"(?:^|\s)({mark}{{1,2}}) (.*)$", line)
        if match is not None and not (mark == "-" and len(match[1]) == 1):
            found.append((number, match[2], not line[: match.start()].strip()))
    yield from _joined(found, mark)


_READERS: Final = {
    ".md": _markdown,
    ".py": _python,
    ".proto": _c_like,
    ".go": _c_like,
    ".ts": _c_like,
    ".java": _c_like,
    ".sql": _sql,
    ".yaml": _hash_comments,
    ".sh": _hash_comments,
    ".service": _hash_comments,
}
