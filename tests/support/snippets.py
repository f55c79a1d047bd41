"""The code blocks of a page, and the way to run those that are marked.

An HTML comment on the line before a block marks it::

    <!-- run: file hello.py -->   written to the page's folder under this name
    <!-- run: test -->            a part of the page's test module, which pytest runs at the end
    <!-- run: serve -->           `perdure serve APP`, as the page's server, on a free port and a database of its own
    <!-- run: shell -->           commands for that server
    <!-- run: python -->          a program that calls that server
    <!-- not run: REASON -->      a block that can neither run nor be compiled alone

The blocks of a page run in order, in one directory.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.server_process import REPOSITORY, ServerProcess

SECONDS_MAX: Final = 60.0
"""Time limit of a single block."""

ADDRESS: Final = "127.0.0.1:7420"
"""Address of the server in the pages. It is replaced when a page runs."""

PYTEST_INI: Final = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""

_FENCE: Final = re.compile(r"^( *)```(\w*)$")
_MARK: Final = re.compile(r"^ *<!-- (not )?run: (.+?) -->$")
_HOWS: Final = frozenset({"file", "test", "serve", "shell", "python"})


class SnippetFailed(AssertionError):
    """A block of a page did not do what the page says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. ``how`` names the way to run it, with an ``argument``. Empty: the block does not run."""

    page: str
    line: int
    language: str
    text: str
    how: str = ""
    argument: str = ""
    exempt: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return the pages with blocks to check."""
    return [
        REPOSITORY / "README.md",
        *sorted(REPOSITORY.glob("docs/**/*.md")),
        REPOSITORY / "clients" / "python" / "README.md",
    ]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page. Raises `SnippetFailed` for an invalid mark."""
    return list(_blocks(str(page.relative_to(REPOSITORY)), page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    opened: tuple[int, str, str] | None = None
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if opened is None and fence is not None:
            opened = (number, fence[1], fence[2])
        elif opened is not None and line == f"{opened[1]}```":
            first, indent, language = opened
            opened = None
            text = "\n".join(inner.removeprefix(indent) for inner in lines[first : number - 1]) + "\n"
            yield _marked(page, first, language, text, lines[first - 2] if first > 1 else "")


def _marked(page: str, line: int, language: str, text: str, before: str) -> Block:
    mark = _MARK.match(before)
    if mark is None:
        return Block(page=page, line=line, language=language, text=text)
    if mark[1]:
        return Block(page=page, line=line, language=language, text=text, exempt=True)
    how, _, argument = mark[2].partition(" ")
    if how not in _HOWS or bool(argument) != (how == "file"):
        raise SnippetFailed(
            f"{page}:{line - 1}: {before!r} is not a mark. Valid marks: {', '.join(sorted(_HOWS))}"
        )
    return Block(page=page, line=line, language=language, text=text, how=how, argument=argument)


class PageRun:
    """Runs the blocks of one page in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exit = ExitStack()
        self._server: ServerProcess | None = None
        self._tests: list[Block] = []

    def __enter__(self) -> PageRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def run(self, block: Block) -> None:
        """Run one block, or keep it for `finish`. Raises `SnippetFailed`."""
        match block.how:
            case "file":
                (self._folder / block.argument).write_text(block.text, encoding="utf-8")
            case "test":
                self._tests.append(block)
            case "serve":
                self._serve(block)
            case "shell":
                self._process(block, ["bash", "-euo", "pipefail", "-c", block.text])
            case "python":
                program = self._folder / f"program_{block.line}.py"
                program.write_text(block.text.replace(ADDRESS, self._address(block)), encoding="utf-8")
                self._process(block, [sys.executable, program.name])

    def finish(self) -> None:
        """Run the page's tests, if it has any."""
        if not self._tests:
            return
        # One module, with each block on its line of the page, so that failures show that line.
        lines: list[str] = []
        for block in self._tests:
            lines += [""] * (block.line - len(lines))
            lines += block.text.splitlines()
        module = self._folder / "test_page.py"
        module.write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self._folder / "pytest.ini").write_text(PYTEST_INI, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", module.name]
        self._process(self._tests[0], command)

    def _serve(self, block: Block) -> None:
        words = shlex.split(block.text)
        if words[:2] != ["perdure", "serve"] or len(words) < 3:
            raise SnippetFailed(f"{block}: start a server with `perdure serve APP`")
        server = ServerProcess(
            self._folder / words[2],
            self._folder / "perdure.db",
            log=self._folder / "server.log",
            arguments=words[3:],
            folder=self._folder,
        )
        self._exit.callback(server.kill)
        self._server = server.start()

    def _address(self, block: Block) -> str:
        if self._server is None:
            raise SnippetFailed(f"{block}: no earlier block of the page starts a server")
        return self._server.address

    def _process(self, block: Block, command: list[str]) -> None:
        scripts = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        environment["PYTHONPATH"] = str(self._folder)
        if self._server is not None:
            environment["PERDURE_SERVER"] = self._server.address
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            server = f"\nits server logged:\n{self._server.log_tail()}" if self._server is not None else ""
            raise SnippetFailed(f"{block} ended with {done.returncode}:\n{done.stdout}{server}")
