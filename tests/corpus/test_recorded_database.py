"""A database file that an older version wrote is checked, served, continued and retried."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from corpus.database import FILE, HOUR_MS, RECORDED_AT_MS, STATES, served
from corpus.histories import FOLDER
from perdure.errors import BusinessKeyInUseError
from perdure_server.embedded import InProcessClient
from perdure_server.runtime.integrity_check import check_database
from perdure_server.store.sqlite.migrate import newest_schema
from perdure_server.store.sqlite.offline import open_offline

FILES = sorted(FOLDER.glob(f"v*/{FILE}"))

SOON_MS = RECORDED_AT_MS + 1
"""Before any timer is due."""

LATE_MS = RECORDED_AT_MS + 72 * HOUR_MS
"""After every timer is due."""

ACTIVE = ("running", "queued")
"""Instances whose attempt was running, or queued behind that one."""

pytestmark = pytest.mark.parametrize("recorded", FILES, ids=lambda path: path.parent.name)


@pytest.fixture
def database(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(recorded, tmp_path / "perdure.db"))


def issues_in(path: Path) -> list[str]:
    with open_offline(str(path)) as database:
        return [
            f"{checked.instance_id}: {issue}"
            for checked in check_database(database)
            for issue in checked.issues
        ]


async def states_of(client: InProcessClient) -> dict[str, str]:
    return {found.instance_id: found.state.value async for found in client.list_instances()}


async def test_the_recorded_database_has_no_issues_before_and_after_it_is_served(database: Path) -> None:
    before = issues_in(database)
    async with served(database, at_ms=SOON_MS) as (_, client):
        for instance_id in ACTIVE:
            await client.wait_for_end(instance_id, timeout=60)
        states = await states_of(client)

    assert before == []
    assert states == STATES | dict.fromkeys(ACTIVE, "COMPLETED")
    assert issues_in(database) == []


async def test_waiting_instances_continue_with_events(database: Path) -> None:
    async with served(database, at_ms=SOON_MS) as (_, client):
        await client.resume("waiting", "approved", {"by": "ann"})
        waiting = await client.wait_for_end("waiting", timeout=60)
        # The buffered event of the second step is still there.
        await client.resume("buffered", "one")
        buffered = await client.wait_for_end("buffered", timeout=60)

    assert waiting.outputs["ship"] == {"number": 7, "by": "ann"}
    assert buffered.outputs["second"] == {"early": True}


async def test_attempts_that_were_running_are_run_again(database: Path) -> None:
    async with served(database, at_ms=SOON_MS) as (_, client):
        running = await client.wait_for_end("running", timeout=60)
        queued = await client.wait_for_end("queued", timeout=60)

    assert (running.outputs["work"], queued.outputs["work"]) == ({"attempt": 2}, {"attempt": 1})


async def test_a_failed_instance_with_interrupted_steps_is_retried(database: Path) -> None:
    async with served(database, at_ms=SOON_MS) as (_, client):
        await client.retry_instance("failed", request_id="retry")
        await client.resume("failed", "answered")
        (timer,) = [timer async for timer in client.list_timers("failed")]
        await client.fire_timer(timer.reference)
        failed = await client.wait_for_end("failed", timeout=60)

    assert failed.state == "COMPLETED"
    assert timer.due_time.timestamp() * 1000 == RECORDED_AT_MS + 12 * HOUR_MS


async def test_timers_fire_that_became_due_while_nothing_was_served(database: Path) -> None:
    async with served(database, at_ms=LATE_MS) as (_, client):
        for instance_id in ("waiting", "sleeping", "backing-off", "delayed"):
            await client.wait_for_end(instance_id, timeout=60)
        states = await states_of(client)
        history = [entry async for entry in client.list_history("waiting")]

    ended = dict.fromkeys(("waiting", "sleeping", "backing-off", "delayed", *ACTIVE), "COMPLETED")
    assert states | dict.fromkeys(ACTIVE, "COMPLETED") == STATES | ended
    fired = [entry.fact for entry in history if type(entry.fact).__name__ == "TimerFired"]
    assert len(fired) == 1


async def test_keys_labels_and_request_ids_are_still_known(database: Path) -> None:
    async with served(database, at_ms=SOON_MS) as (_, client):
        repeated = await client.start_instance(
            "approval",
            {"number": 7},
            instance_id="waiting",
            business_key="order-7",
            labels={"team": "blue", "tier": "gold"},
            request_id="start-waiting",
        )
        with pytest.raises(BusinessKeyInUseError):
            await client.start_instance("approval", {"number": 8}, business_key="order-7")
        again = await client.schedule_resume("waiting", "decide", 2 * HOUR_MS, request_id="remind")
        timers = {timer.reference async for timer in client.list_timers("waiting")}
        blue = {found.instance_id async for found in client.list_instances(labels={"team": "blue"})}
        live = {
            found.instance_id
            async for found in client.list_instances(
                workflow="two_waits", version=1, states=["PENDING", "RUNNING", "WAITING"]
            )
        }
        kept = await client.get_instance("completed")

    assert repeated.instance_id == "waiting"
    assert again.reference in timers
    assert len(timers) == 2
    assert blue == {"waiting", "buffered"}
    assert live == {"buffered"}
    assert kept.input == {"kept": "ä"}


def test_a_database_of_the_newest_schema_is_recorded(recorded: Path) -> None:
    numbers = [int.from_bytes(path.read_bytes()[60:64]) for path in FILES]

    assert recorded in FILES
    assert newest_schema() in numbers
