"""Crash loops end: the step that kills the server fails with `AttemptLost`, and no other step fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.client import AttemptFailed, AttemptReleased, Client, Fact, Instance, InstanceState
from perdure.errors import UnavailableError
from support.server_process import ServerDidNotStart, ServerProcess

APP = Path(__file__).with_name("crash_app.py")
WAIT_SECONDS = 600.0
STARTS_MAX = 40

pytestmark = pytest.mark.timeout(1_200)


class Supervisor:
    """Starts the server again whenever it has ended, as systemd would."""

    def __init__(self, directory: Path) -> None:
        self.ledger = directory / "ledger"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.server = ServerProcess(
            APP,
            directory / "p.db",
            log=directory / "log",
            listen=self.address,
            environment={"PERDURE_TEST_LEDGER": str(self.ledger)},
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def start(self) -> None:
        self.server.start()
        self._thread.start()

    def _supervise(self) -> None:
        while not self._stopping.is_set() and self.server.starts < STARTS_MAX:
            self.server.wait(WAIT_SECONDS * 2)
            if self._stopping.is_set():
                return
            try:
                self.server.start()
            except ServerDidNotStart:
                continue  # it crashed before its ready line

    def stop(self) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            # A start that is under way ends first.
            self.server.kill()
            self._thread.join(1)
        self.server.kill()

    def attempts_of(self, instance_id: str) -> list[int]:
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return [int(attempt) for found, attempt in lines if found == instance_id]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(supervisor: Supervisor) -> Iterator[Client]:
    with Client(supervisor.address) as made:
        yield made


def start(client: Client, workflow: str, instance_id: str, seconds: float) -> None:
    client.start_instance(
        workflow, {"seconds": seconds}, instance_id=instance_id, request_id=f"start-{instance_id}"
    )


def end_of(client: Client, instance_id: str) -> Instance:
    # The client retries for a while only, and a restart takes long on a busy machine.
    ends_at = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return client.wait_for_end(instance_id, timeout=WAIT_SECONDS)
        except UnavailableError:
            assert time.monotonic() < ends_at, "the server is not restarted"


def facts_of(client: Client, instance_id: str) -> list[Fact]:
    return [entry.fact for entry in client.list_history(instance_id)]


def failures_of(client: Client, instance_id: str) -> list[AttemptFailed]:
    return [fact for fact in facts_of(client, instance_id) if isinstance(fact, AttemptFailed)]


def test_only_the_step_that_stops_the_server_fails(supervisor: Supervisor, client: Client) -> None:
    innocents = [f"innocent-{number}" for number in range(50)]
    for instance_id in innocents:
        start(client, "innocent", instance_id, 1.0)
    start(client, "exits", "guilty", 0.02)

    guilty = end_of(client, "guilty")
    ended = [end_of(client, instance_id) for instance_id in innocents]

    assert {instance.state for instance in ended} == {InstanceState.COMPLETED}
    assert guilty.state is InstanceState.FAILED
    assert guilty.error is not None
    assert guilty.error.type == "AttemptLost"
    # Twice with the others, three times alone, and the start that ends the loop.
    assert supervisor.server.starts <= 6
    assert len(supervisor.attempts_of("guilty")) <= 5
    released = [fact for fact in facts_of(client, "guilty") if isinstance(fact, AttemptReleased)]
    assert all(fact.lost for fact in released)
    assert not any(failures_of(client, instance_id) for instance_id in innocents)


def test_two_steps_that_stop_the_server_both_fail(supervisor: Supervisor, client: Client) -> None:
    innocents = [f"innocent-{number}" for number in range(5)]
    for instance_id in innocents:
        start(client, "innocent", instance_id, 6.0)
    start(client, "exits", "first", 0.5)
    start(client, "dereferences", "second", 0.5)

    for instance_id in ("first", "second"):
        error = end_of(client, instance_id).error
        assert error is not None
        assert error.type == "AttemptLost"
    for instance_id in innocents:
        assert end_of(client, instance_id).state is InstanceState.COMPLETED


def test_a_step_that_stops_the_server_after_3_s_fails(supervisor: Supervisor, client: Client) -> None:
    start(client, "innocent", "innocent", 5.5)
    start(client, "exits", "guilty", 3.0)

    error = end_of(client, "guilty").error

    assert error is not None
    assert error.type == "AttemptLost"
    assert "alone" in error.message
    assert end_of(client, "innocent").state is InstanceState.COMPLETED


def test_the_retry_policy_and_the_error_transition_end_the_loop(
    supervisor: Supervisor, client: Client
) -> None:
    start(client, "innocent", "innocent", 15.0)
    start(client, "exits_in_thread", "guilty", 0.02)

    ended = end_of(client, "guilty")

    assert ended.state is InstanceState.COMPLETED
    report = ended.outputs["after"]["report"]
    assert (report["type"], report["attempts"]) == ("AttemptLost", 2)
    failures = failures_of(client, "guilty")
    assert [(fact.type, fact.retrying) for fact in failures] == [
        ("AttemptLost", True),
        ("AttemptLost", False),
    ]
    # Its neighbour was lost at the first two stops, and at the third one if it had survived its time alone by then. The
    # retry stopped the server too, which did not count.
    assert end_of(client, "innocent").state is InstanceState.COMPLETED
    released = [fact for fact in facts_of(client, "innocent") if isinstance(fact, AttemptReleased)]
    losses = [fact for fact in released if fact.lost]
    assert len(losses) <= 3
    assert len(losses) < len(released)


def test_a_cancelled_suspect_is_not_run_again(supervisor: Supervisor, client: Client) -> None:
    start(client, "exits", "guilty", 0.5)
    client.cancel_instance("guilty", request_id="cancel")

    start(client, "innocent", "innocent", 0.1)

    assert end_of(client, "innocent").state is InstanceState.COMPLETED
    assert end_of(client, "guilty").state is InstanceState.CANCELLED
