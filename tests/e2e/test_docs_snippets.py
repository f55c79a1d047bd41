"""The blocks of the pages run, their Python compiles, and their commands exist."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure_server.cli.main import app
from support.server_process import REPOSITORY
from support.snippets import Block, PageRun, SnippetFailed, blocks_of, pages

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUNNABLE = sorted({block.page for block in BLOCKS if block.how})
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


@pytest.mark.e2e
@pytest.mark.parametrize("page", RUNNABLE)
def test_the_marked_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    with PageRun(tmp_path) as run:
        for block in BLOCKS:
            if block.page == page:
                run.run(block)
        run.finish()


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "python" and not block.exempt], ids=str
)
def test_every_python_block_compiles(block: Block) -> None:
    compile(
        textwrap.dedent(block.text), str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    )


def commands() -> Iterator[Any]:
    """Every line of a block or of an example's docstring that runs `perdure`."""
    texts = [(str(block), block.text) for block in BLOCKS if block.language != "python" and not block.exempt]
    texts += [
        (path.name, ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") for path in EXAMPLES
    ]
    for where, text in texts:
        joined = re.sub(r"\\\n *", "", text)
        for line in joined.splitlines():
            words = line.strip().removeprefix("$ ")
            if words.startswith("perdure ") and not words.startswith("perdure listening"):
                yield pytest.param(words, id=f"{where}: {words}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_line_is_valid(line: str) -> None:
    command: Any = app
    words = shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    if "--help" in words or "--version" in words:
        return
    with command.make_context(command.name, words):
        pass


def test_the_readme_serves_its_workflow_and_calls_it() -> None:
    hows = [block.how for block in BLOCKS if block.page == "README.md" and block.how]
    assert hows == ["file", "serve", "shell", "python"]


def test_a_failing_block_is_reported_with_its_line_and_output(tmp_path: Path) -> None:
    block = Block(page="docs/x.md", line=7, language="", text="echo so far\nfalse\necho no\n", how="shell")

    with (
        pytest.raises(SnippetFailed, match=r"docs/x\.md:7 ended with 1:\nso far\n$"),
        PageRun(tmp_path) as run,
    ):
        run.run(block)


def test_a_failing_test_of_a_page_is_reported_on_its_line(tmp_path: Path) -> None:
    block = Block(
        page="docs/x.md", line=41, language="python", text="def test_it():\n    assert 1 == 2\n", how="test"
    )

    with PageRun(tmp_path) as run:
        run.run(block)
        with pytest.raises(SnippetFailed, match=r"test_page\.py:43: AssertionError"):
            run.finish()


@pytest.mark.parametrize("mark", ["run: fast", "run: file", "run: shell now"])
def test_an_invalid_mark_is_rejected(mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {mark} -->\n```\ntrue\n```\n")
    monkeypatch.setattr("support.snippets.REPOSITORY", tmp_path)

    with pytest.raises(SnippetFailed, match="is not a mark"):
        blocks_of(page)
