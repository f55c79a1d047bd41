"""The command line against a real server: the demo, the terminal view, completion and exit codes."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from perdure import Client, errors
from perdure_server.cli.errors import Exit
from support.server_process import REPOSITORY, ServerProcess
from support.terminal import Terminal

pytestmark = pytest.mark.e2e

PERDURE: Final = (sys.executable, "-m", "perdure_server.cli")
ORDER: Final = REPOSITORY / "examples" / "order.py"
CONTEXT: Final = {"items": ["lamp"]}
SECONDS_MAX: Final = 90.0


def perdure(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PERDURE, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


@pytest.fixture
def server(server_process: Callable[..., ServerProcess]) -> ServerProcess:
    return server_process(ORDER)


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


# --- the view on a terminal --------------------------------------------------------------------------------------


def test_on_a_terminal_watch_shows_the_current_steps_across_a_crash(
    server_process: Callable[..., ServerProcess],
) -> None:
    server = server_process(ORDER, listen="127.0.0.1:0")
    again = server_process(
        ORDER, database=server.log.with_name("server-0.db"), listen=server.address, start=False
    )
    with Client(server.address) as client:
        client.start_instance("order", CONTEXT, instance_id="o1")
    with Terminal("watch", "o1", "--server", server.address) as screen:
        screen.await_text(r"reserve +WAITING +1 +\S+Z \(in 00:59:\d\d\) +for reserved")
        screen.await_text(r"ship +-")
        server.kill()
        screen.await_text(rf"the connection to {server.address} is lost; waiting for up to 5 minutes")
        again.start()
        with Client(server.address) as client:
            client.resume("o1", "reserved", {"shelf": "B7"})
            screen.await_text(r'reserve +FINISHED +reserved  \{"shelf":"B7"\}')
            screen.await_text(r"approval +WAITING +\S+Z \(in 23:59:\d\d\) +for approved, rejected")
            client.resume("o1", "rejected")
        screen.await_text(r"o1  order v1  COMPLETED")
        code = screen.wait()

    assert screen.drew
    assert code == Exit.OK


def test_a_view_of_an_instance_that_is_cancelled_ends_with_5(server: ServerProcess, client: Client) -> None:
    client.start_instance("order", CONTEXT, instance_id="o1")
    with Terminal("watch", "o1", "--server", server.address) as screen:
        screen.await_text(r"reserve +WAITING")
        client.cancel_instance("o1")
        screen.await_text(r"o1  order v1  CANCELLED")

        assert screen.wait() == Exit.NOT_COMPLETED


def test_plain_lines_on_a_terminal_are_those_of_a_pipe(server: ServerProcess, client: Client) -> None:
    client.start_instance("order", {}, instance_id="o1")
    client.wait_for_end("o1")
    arguments = ("watch", "o1", "--after-revision", "0", "--server", server.address)
    with Terminal(*arguments, "--plain") as screen:
        code = screen.wait()

    piped = perdure(*arguments)

    assert not screen.drew
    assert (code, piped.returncode) == (Exit.OK, Exit.OK)
    assert screen.text == piped.stdout
    assert "instance completed" in piped.stdout


def test_watching_a_missing_instance_on_a_terminal_fails_with_not_found(server: ServerProcess) -> None:
    with Terminal("watch", "missing", "--server", server.address) as screen:
        code = screen.wait()

    assert code == Exit.REJECTED
    assert "perdure: error: instance 'missing' not found (INSTANCE_NOT_FOUND)" in screen.text


# --- the demo ----------------------------------------------------------------------------------------------------


def test_the_demo_writes_no_file_and_its_two_commands_work(tmp_path: Path) -> None:
    serving = subprocess.Popen(
        [*PERDURE, "serve", "--demo", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")},
    )
    assert serving.stdout is not None
    try:
        ready, first, second = (serving.stdout.readline() for _ in range(3))
        address = ready.rpartition(" ")[2].strip()
        started, watched = first.split(" && ")
        assert f"--server {address}" in second
        assert perdure(*shlex.split(started)[1:]).stdout == "demo-1\n"
        assert perdure(*shlex.split(second)[1:]).returncode == Exit.OK
        with Client(address) as client:
            for timer in client.list_timers("demo-1"):
                with contextlib.suppress(errors.TimerNotFoundError):  # it was due meanwhile
                    client.fire_timer(timer.reference)
        followed = perdure(*shlex.split(watched)[1:])
    finally:
        serving.terminate()
        code = serving.wait(SECONDS_MAX)
        serving.stdout.close()

    assert followed.returncode == Exit.OK
    assert "You said Good morning. Goodbye!" in followed.stdout
    assert (code, list(tmp_path.iterdir())) == (0, [])


def test_the_demo_keeps_its_instances_in_a_database_that_is_named(
    server_process: Callable[..., ServerProcess],
) -> None:
    server = server_process("--demo")
    with Client(server.address) as client:
        client.start_instance("demo", instance_id="d1")

    server.restart()

    with Client(server.address) as client:
        assert client.get_instance("d1").workflow == "demo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (),
            "perdure: error: no APP to serve\nhint: name a .py file or a module, or try `perdure serve --demo`\n",
        ),
        (("--demo", str(ORDER)), "perdure: error: --demo serves its own workflow\nhint: omit the APP\n"),
    ],
)
def test_serve_wants_an_app_or_the_demo_and_not_both(arguments: tuple[str, ...], message: str) -> None:
    done = perdure("serve", *arguments)

    assert (done.returncode, done.stderr) == (Exit.USAGE, message)


# --- the shell ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_is_printed(shell: str) -> None:
    done = perdure(_PERDURE_COMPLETE=f"{shell}_source")

    assert done.returncode == Exit.OK
    assert f"_PERDURE_COMPLETE={shell}_complete" in done.stdout


def test_completion_knows_the_commands_and_their_options() -> None:
    commands = perdure(_PERDURE_COMPLETE="bash_complete", COMP_WORDS="perdure wat", COMP_CWORD="1")
    options = perdure(_PERDURE_COMPLETE="bash_complete", COMP_WORDS="perdure serve --de", COMP_CWORD="2")

    assert (commands.stdout.split(), options.stdout.split()) == (["plain,watch"], ["plain,--demo"])
