"""Commands with closed or full descriptors, apps that raise any exception, and terminals that disconnect."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from support.server_process import REPOSITORY

SECONDS_MAX: Final = 60.0
PLAIN_APP: Final = Path(__file__).parent / "faults/plain_app.py"
ORDER: Final = REPOSITORY / "examples/order.py"
NOBODY: Final = ("--server", "127.0.0.1:1", "--timeout", "1s")

pytestmark = pytest.mark.e2e


def perdure(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *settings.pop("python", ()), "-m", "perdure_server.cli", *arguments],
        check=False,
        text=True,
        timeout=SECONDS_MAX,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **settings},
    )


# --- descriptors -------------------------------------------------------------------------------------------------

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "version": ("--version",),
    "help": ("--help",),
    "validate": ("workflows", "validate", str(ORDER)),
    "show": ("workflows", "show", str(ORDER)),
    "show --json": ("workflows", "show", str(ORDER), "--json"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_output_that_cannot_be_written_is_one_line_and_an_exit_code(command: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = perdure(*command, stdout=full)

    assert (done.returncode, done.stderr) == (
        1,
        "perdure: cannot write to standard output: No space left on device\n",
    )


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_output_that_is_closed_is_one_line_and_an_exit_code(command: tuple[str, ...]) -> None:
    done = perdure(*command, stdout=None, preexec_fn=lambda: os.close(1))

    assert (done.returncode, done.stderr) == (1, "perdure: cannot write to standard output: it is closed\n")


FAILING: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "unreached": (3, ("list", *NOBODY)),
    "health": (3, ("health", *NOBODY)),
    "usage": (2, ("start",)),
    "no file": (2, ("serve", "no_such.py")),
    "no database": (2, ("db", "check", "no_such.db")),
    "stdin": (2, ("start", "x", "--context", "@-", *NOBODY)),
}


@pytest.mark.parametrize(("code", "command"), FAILING.values(), ids=FAILING)
def test_an_error_keeps_its_exit_code_without_any_descriptor(code: int, command: tuple[str, ...]) -> None:
    done = perdure(*command, stdout=None, stderr=None, stdin=None, preexec_fn=lambda: os.closerange(0, 3))

    assert done.returncode == code


@pytest.mark.parametrize(("code", "command"), FAILING.values(), ids=FAILING)
def test_an_error_keeps_its_exit_code_where_nothing_can_be_written(
    code: int, command: tuple[str, ...]
) -> None:
    with open("/dev/full", "wb") as full:
        done = perdure(*command, stdout=full, stderr=full)

    assert done.returncode == code


@pytest.mark.parametrize(("code", "command"), FAILING.values(), ids=FAILING)
def test_an_error_is_one_line_although_standard_input_is_closed(code: int, command: tuple[str, ...]) -> None:
    done = perdure(*command, stdin=None, preexec_fn=lambda: os.close(0))

    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert done.stderr.startswith("perdure: ")


def test_a_closed_standard_output_never_becomes_the_database(tmp_path: Path) -> None:
    done = perdure(
        *("serve", str(PLAIN_APP), "--database", f"sqlite:///{tmp_path}/x.db", "--listen", "192.0.2.1:1"),
        "--insecure",
        stdout=None,
        preexec_fn=lambda: os.close(1),
    )

    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    program = (
        "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "-m", "perdure_server.cli", "serve", "shop.flows"],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )

    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


# --- apps --------------------------------------------------------------------------------------------------------

MUTE = """
class Mute({base}):
    def __str__(self): raise SystemExit(0)
    __repr__ = __str__
raise Mute
"""

APPS: Final = {
    "exit": ("import sys; sys.exit()", "sys.exit(None)"),
    "exit 0": ("raise SystemExit(0)", "sys.exit(0)"),
    "exit with a text": (
        "import sys; sys.exit('\\x1b[31mno\\nperdure: forged')",
        "\\x1b[31mno perdure: forged",
    ),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "base": ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    "generator exit": ("raise GeneratorExit", "GeneratorExit"),
    "mute": (MUTE.format(base="Exception"), "a Mute without a text"),
    "mute base": (MUTE.format(base="BaseException"), "a Mute without a text"),
    "mute exit": (
        "import sys\nclass Mute:\n    def __str__(self): raise ValueError\nsys.exit(Mute())",
        "sys.exit(",
    ),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "memory": ("raise MemoryError", "MemoryError"),
    "group": ("raise ExceptionGroup('two', [ValueError(1), KeyError(2)])", "ExceptionGroup: two"),
    "syntax": ("class:", "line 1"),
    "syntax by hand": ("raise SyntaxError", "None"),
    "huge": ("raise ValueError('x' * 10_000_000)", "ValueError: xxx"),
    "null": ("\0", "null bytes"),
    "warning": ("import warnings\nwarnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
    "no streams": (
        "import sys\nsys.stdout = sys.stderr = None\nraise ValueError('late')",
        "ValueError: late",
    ),
    "closed": ("import os\nos.close(0); os.close(1)\nraise ValueError('late')", "ValueError: late"),
    "thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\nraise ValueError(1)",
        "ValueError: 1",
    ),
    "no workflow": ("x = 1", "has no workflow"),
}


@pytest.mark.parametrize(
    "command", [("serve",), ("workflows", "validate"), ("workflows", "show")], ids=" ".join
)
@pytest.mark.parametrize(("code", "told"), APPS.values(), ids=APPS)
def test_whatever_an_app_raises_is_one_line_and_an_exit_code(
    tmp_path: Path, command: tuple[str, ...], code: str, told: str
) -> None:
    (tmp_path / "shop_app.py").write_text(code)
    done = perdure(*command, str(tmp_path / "shop_app.py"), python=("-W", "error::DeprecationWarning"))

    assert done.returncode in (1, 2)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
    assert done.stderr.startswith("perdure: ")
    assert told in done.stderr.replace("null characters", "null bytes")
    assert done.stderr.isprintable() or done.stderr.strip("\n").isprintable()


NAMES: Final = (
    "queue",
    "json",
    "random",
    "grpc",
    "orjson",
    "apsw",
    "click",
    "uvloop",
    "rich",
    "prometheus_client",
)


@pytest.mark.parametrize("name", [*NAMES, "cryptography", "perdure"])
def test_an_app_is_loaded_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    source = ORDER.read_text()
    (tmp_path / f"{name}.py").write_text(source)
    for other in NAMES:
        if other != name:
            (tmp_path / f"{other}.py").write_text("raise RuntimeError('shadowed')")
    for app in (f"{name}.py", str(tmp_path / f"{name}.py")):
        done = perdure("workflows", "validate", app, cwd=tmp_path)

        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_module_named_like_the_standard_librarys_says_how_to_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text(ORDER.read_text())
    done = perdure("workflows", "validate", "queue", cwd=tmp_path)

    assert done.returncode == 2
    assert "write ./queue.py" in done.stderr


# --- terminals ---------------------------------------------------------------------------------------------------


def test_a_server_whose_terminal_is_closed_drains(tmp_path: Path) -> None:
    command = ["serve", str(PLAIN_APP), "--listen", "127.0.0.1:0", "--database", f"sqlite:///{tmp_path}/x.db"]
    log = tmp_path / "log"
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY), 2)
        os.execv(sys.executable, [sys.executable, "-m", "perdure_server.cli", *command])
    seen = b""
    while b"perdure listening" not in seen:
        seen += os.read(terminal, 1_000)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0, log.read_text()
    assert '"stopped"' in log.read_text().splitlines()[-1]


def test_an_interrupt_during_the_first_imports_prints_no_traceback() -> None:
    # The handler is there before anything of size is imported, so a signal at its first import finds it.
    program = (
        "import sys, os, signal\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from perdure._cli import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "list"],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert signal.SIGINT == 2
