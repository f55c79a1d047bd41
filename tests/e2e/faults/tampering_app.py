"""App of a server whose steps tamper with the server's own database, as the input of `Tamper.tamper` says.

With `PERDURE_TEST_BLIND`, the server does not check its files. The tests must detect this bug.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from perdure import Context, Outcome, RetryPolicy, Workflow, step, wait_for
from perdure_server.store.sqlite.database_files import DatabaseFiles

BLIND_VARIABLE: Final = "PERDURE_TEST_BLIND"

if BLIND_VARIABLE in os.environ:
    DatabaseFiles._difference = lambda _: ""  # type: ignore[method-assign]


def read_natively(database: str) -> str:
    """Open and close the file without Python knowing, as a library in C would."""
    library = ctypes.CDLL(None)
    descriptor = library.open(database.encode(), os.O_RDONLY)
    library.close(descriptor)
    return "done"


def attach(database: str) -> str:
    """Open and close the file with another SQLite, by a way that Python does not announce."""
    with contextlib.closing(sqlite3.connect(":memory:")) as other:
        other.execute("ATTACH ? AS served", [database])
        return str(other.execute("SELECT count(*) FROM served.instances").fetchone()[0])


def connect(database: str) -> str:
    with contextlib.closing(sqlite3.connect(database)) as other:
        return str(other.execute("SELECT count(*) FROM instances").fetchone()[0])


def read(database: str) -> str:
    return str(len(Path(database).read_bytes()))


def fork(file: str) -> str:
    """Leave one forked child behind, which outlives the server. A step that runs again forks no other."""
    try:
        Path(f"{file}.forked").touch(exist_ok=False)
    except FileExistsError:
        return ""
    child = os.fork()
    if child == 0:
        os.closerange(0, 3)
        signal.pause()
        os._exit(0)
    return str(child)


def take_over_descriptors(file: str) -> str:
    """Open another file under the numbers of the server's own descriptors, once in the life of a database."""
    with Path(f"{file}.other").open("xb") as other:
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(int(entry)), os.stat(file)):
                    os.dup2(other.fileno(), int(entry))
    return "done"


def close_descriptors(file: str) -> str:
    """Close the server's own descriptors of a file, once in the life of a database."""
    Path(f"{file}.closed").touch(exist_ok=False)
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(entry)), os.stat(file)):
                os.close(int(entry))
    return "done"


def look_from_a_child(database: str) -> str:
    """Open the database in another process, which is allowed."""
    program = (
        "import sqlite3, sys\n"
        "print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM instances').fetchone()[0])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, database], capture_output=True, text=True, check=True
    ).stdout.strip()


ACTIONS: Final[dict[str, Any]] = {
    action.__name__: action
    for action in (
        read_natively,
        attach,
        connect,
        read,
        fork,
        look_from_a_child,
        take_over_descriptors,
        close_descriptors,
    )
}


class Tamper(Workflow, name="tamper", version=1):
    """Runs one action on a database, and writes what came of it into a file before the step ends."""

    start = "tamper"

    @step(on={"done": "end"}, retry=RetryPolicy(max_attempts=1))
    def tamper(self, ctx: Context) -> Outcome:
        try:
            result = ACTIONS[ctx.input["action"]](ctx.input["database"])
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        report = Path(ctx.input["report"])
        report.with_suffix(".new").write_text(result)
        report.with_suffix(".new").rename(report)
        return Outcome("done")


class Parked(Workflow, name="parked", version=1):
    """Waits, and so is a row that must not be lost."""

    start = "parked"
    parked = wait_for("left", timeout="24h", on={"left": "end", "timeout": "end"})
