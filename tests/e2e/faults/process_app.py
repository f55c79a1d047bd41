"""Steps that change the server process, as user code does: fork, print, log, change the folder, leave threads."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from perdure import Context, Outcome, RetryPolicy, Workflow, step

ONCE: Final = RetryPolicy(max_attempts=1)
LONG_SECONDS: Final = 600
FORK: Final = multiprocessing.get_context("fork")


def double(number: int) -> int:
    return 2 * number


def sleep_long() -> None:
    time.sleep(LONG_SECONDS)


def pool(_: Context) -> Any:
    with FORK.Pool(2) as workers:
        return sum(workers.map(double, [1, 2, 3]))


def terminate(_: Context) -> Any:
    child = FORK.Process(target=sleep_long)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


def fork_and_signal(_: Context) -> Any:
    """The child sends itself every signal that stops a server; only the first can have an effect."""
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), 15)
        os._exit(77)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_return(_: Context) -> Any:
    """The child forgets to end itself."""
    child = os.fork()
    if child == 0:
        return "child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_raise(_: Context) -> Any:
    child = os.fork()
    if child == 0:
        raise ValueError("child")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_print(_: Context) -> Any:
    """More than the pipe of an output that is not read can hold."""
    child = FORK.Process(target=print_much)
    child.start()
    child.join()
    return child.exitcode


def print_much() -> None:
    for _ in range(300):
        print("x" * 1_000)
        print("y" * 1_000, file=sys.stderr)


def print_and_close(_: Context) -> Any:
    print_much()
    sys.stdout.close()
    sys.stderr.close()
    print("still there", flush=True)
    sys.stdout.buffer.write(b"bytes\n")
    return "printed"


def write_descriptor(_: Context) -> Any:
    for _ in range(300):
        os.write(1, b"z" * 999 + b"\n")
    return "written"


def run_program(_: Context) -> Any:
    """A program that inherits the standard output, and everything else that is not closed by ``exec``."""
    program = "import sys; print('p' * 300_000); sys.stdout.flush()"
    return subprocess.run([sys.executable, "-c", program], check=False, close_fds=False).returncode


def leave_children(ctx: Context) -> Any:
    """Children of three kinds that outlive the step."""
    first = FORK.Process(target=sleep_long)
    first.start()
    second = os.fork()
    if second == 0:
        time.sleep(LONG_SECONDS)
        os._exit(0)
    third = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep({LONG_SECONDS})"], close_fds=False
    )
    return [first.pid, second, third.pid]


def leave_threads(_: Context) -> Any:
    threading.Thread(target=sleep_long, daemon=False).start()
    return "left"


def silence_logs(_: Context) -> Any:
    logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}})
    logging.basicConfig(force=True, level=logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).disabled = True
    logging.setLogRecordFactory(lambda *a, **k: 1 / 0)  # type: ignore[arg-type, return-value]
    logging.shutdown()
    return "silenced"


def change_folder(_: Context) -> Any:
    os.chdir("/")
    return os.getcwd()


def log_much(_: Context) -> Any:
    for number in range(3_000):
        logging.getLogger("shop").warning("line %d %s", number, "l" * 1_000)
    return "logged"


BODIES: Final[dict[str, Callable[[Context], Any]]] = {
    body.__name__: body
    for body in (
        *(pool, terminate, fork_and_signal, fork_and_return, fork_and_raise, fork_and_print, print_and_close),
        *(
            write_descriptor,
            run_program,
            leave_children,
            leave_threads,
            silence_logs,
            change_folder,
            log_much,
        ),
    )
}


def _workflow(name: str, body: Callable[[Context], Any]) -> type[Workflow]:
    if name.startswith("async_"):

        async def work(self: Workflow, ctx: Context) -> Any:
            return Outcome("done", value=body(ctx))
    else:

        def work(self: Workflow, ctx: Context) -> Any:
            return Outcome("done", value=body(ctx))

    made = step(on={"done": "end"}, retry=ONCE)(work)
    return type(Workflow)(name, (Workflow,), {"start": "work", "work": made}, name=name, version=1)


for _name, _body in BODIES.items():
    globals()[_name.upper()] = _workflow(_name, _body)
    globals()[f"ASYNC_{_name.upper()}"] = _workflow(f"async_{_name}", _body)


class Good(Workflow, name="good", version=1):
    start = "work"

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        if child_file := os.environ.get("LIFESPAN_CHILD"):
            child = FORK.Process(target=sleep_long)
            child.start()
            await asyncio.to_thread(Path(child_file).write_text, str(child.pid))
        if marker := os.environ.get("LIFESPAN_MARKER"):
            await asyncio.to_thread(Path(marker).touch)
            if os.environ.get("LIFESPAN_BLOCKS"):
                time.sleep(LONG_SECONDS)  # noqa: ASYNC251 - that is the fault
            await asyncio.sleep(LONG_SECONDS)
        yield

    @step(on={"done": "end"}, retry=ONCE)
    async def work(self, ctx: Context) -> Outcome:
        return Outcome("done")
