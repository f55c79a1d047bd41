"""Unclean stops: what a process left behind, and which step definitions ran at two of them in a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perdure_server.engine.state import State
from perdure_server.store.protocol import CrashReport, LostAttempt, StepKey, Store, TaskRow
from support.factories import a_change, a_definition, a_state, a_task
from support.stores import Clock, Kind

NOTHING = CrashReport()


class Server:
    """One server after another on one database. Each registers a replica, runs attempts, and stops."""

    def __init__(self, kind: Kind, directory: Path, clock: Clock) -> None:
        self._make = lambda: kind.make(directory, clock)
        self.store: Store = self._make()
        self.starts = 0

    async def start(self) -> CrashReport:
        self.store = self._make()
        await self.store.open()
        await self.store.put_definition(a_definition())
        report = await self.store.crash_report()
        self.starts += 1
        await self.store.register_replica(self.owner, lease_ms=60_000)
        return report

    @property
    def owner(self) -> str:
        return f"replica-{self.starts}"

    async def run(self, *steps: str, attempt: int = 1) -> list[TaskRow]:
        """Store one instance per step, and run an attempt of it."""
        rows = []
        for step_ref in steps:
            state = a_state()
            row = a_task(state, step_ref, attempt=attempt, owner=self.owner)
            await self.store.commit([a_change(state, tasks=(row,))])
            rows.append(row)
        return rows

    async def run_again(self, row: TaskRow) -> TaskRow:
        """Run the next attempt of a step."""
        again = replace(row, attempt=row.attempt + 1, owner=self.owner)
        await self._write(row, again)
        return again

    async def release(self, row: TaskRow) -> None:
        await self._write(row, replace(row, owner=""))

    async def _write(self, row: TaskRow, task: TaskRow) -> None:
        state: State | None = await self.store.load(row.instance_id)
        assert state is not None
        after = replace(state, revision=state.revision + 1)
        await self.store.commit([a_change(after, tasks=(task,))])

    async def stop(self) -> None:
        await self.store.end_replica(self.owner)
        await self.store.close()

    async def crash(self) -> None:
        await self.store.close()


@pytest.fixture
async def server(kind: Kind, tmp_path: Path, clock: Clock) -> Server:
    if not kind.durable:
        pytest.skip("keeps no promise about restarts")
    return Server(kind, tmp_path, clock)


def key(step_ref: str) -> StepKey:
    return StepKey("order", 1, step_ref)


async def test_a_new_database_has_no_lost_attempts(server: Server) -> None:
    assert await server.start() == NOTHING
    await server.stop()


async def test_attempts_that_ran_at_an_unclean_stop_are_lost(server: Server) -> None:
    await server.start()
    rows = await server.run("charge", "reserve")
    await server.crash()

    report = await server.start()

    assert list(report.lost) == [LostAttempt(row, alone=False) for row in rows]
    assert report.suspects == frozenset()
    await server.stop()


async def test_attempts_that_a_clean_stop_left_are_not_lost(server: Server) -> None:
    await server.start()
    await server.run("charge")
    await server.stop()
    assert await server.start() == NOTHING
    await server.run("reserve")
    await server.crash()
    report = await server.start()
    assert [lost.task.step_ref for lost in report.lost] == ["reserve"]
    await server.stop()


async def test_a_lost_attempt_is_reported_until_it_is_released(server: Server) -> None:
    await server.start()
    (row,) = await server.run("charge")
    await server.crash()
    for _ in range(2):
        assert [lost.task for lost in (await server.start()).lost] == [row]
        await server.crash()
    await server.start()
    await server.release(row)
    assert (await server.store.crash_report()).lost == ()
    await server.stop()


async def test_steps_that_ran_at_two_unclean_stops_in_a_row_are_suspects(server: Server) -> None:
    await server.start()
    rows = await server.run("charge", "reserve")
    await server.crash()
    await server.start()
    await server.run_again(rows[0])
    await server.release(rows[1])
    await server.run("validate")
    await server.crash()

    report = await server.start()

    assert report.suspects == {key("charge")}
    assert report.crashed_alone == frozenset()
    await server.stop()


async def test_a_clean_stop_ends_the_row_of_unclean_ones(server: Server) -> None:
    await server.start()
    await server.run("charge")
    await server.crash()
    await server.start()
    await server.stop()
    await server.start()
    await server.run("charge")
    await server.crash()
    assert (await server.start()).suspects == frozenset()
    await server.stop()


async def test_a_process_killed_while_it_starts_changes_nothing(server: Server) -> None:
    await server.start()
    (row,) = await server.run("charge")
    await server.crash()
    await server.start()
    await server.run_again(row)
    await server.crash()
    expected = {key("charge")}
    for _ in range(3):
        assert (await server.start()).suspects == expected
        await server.crash()
        # A start that is killed before it registers a replica.
        await server.store.open()
        await server.store.close()
    await server.start()
    await server.stop()


async def test_an_attempt_marked_as_solo_is_lost_while_alone(server: Server) -> None:
    await server.start()
    (row,) = await server.run("charge")
    await server.crash()
    await server.start()
    await server.store.mark_solo(row.instance_id, row.step_ref, row.attempt + 1, alone=True)
    again = await server.run_again(row)
    await server.crash()

    report = await server.start()

    assert list(report.lost) == [LostAttempt(again, alone=True)]
    assert report.crashed_alone == {key("charge")}
    await server.stop()


async def test_an_attempt_that_survived_its_time_is_not_alone(server: Server) -> None:
    await server.start()
    (row,) = await server.run("charge")
    await server.crash()
    await server.start()
    await server.store.mark_solo(row.instance_id, row.step_ref, row.attempt + 1, alone=True)
    again = await server.run_again(row)
    await server.store.mark_solo(row.instance_id, row.step_ref, row.attempt + 1, alone=False)
    await server.crash()

    report = await server.start()

    assert list(report.lost) == [LostAttempt(again, alone=False)]
    assert report.survived == {(row.instance_id, row.step_ref)}
    await server.stop()


async def test_suspects_that_did_not_run_stay_suspects_until_cleared(server: Server) -> None:
    await server.start()
    rows = await server.run("charge", "reserve")
    await server.crash()
    await server.start()
    rows = [await server.run_again(row) for row in rows]
    await server.crash()
    await server.start()
    for row in rows:
        await server.release(row)
    await server.run_again(rows[0])
    await server.crash()

    assert (await server.start()).suspects == {key("charge"), key("reserve")}
    await server.store.clear_suspects([key("reserve")])
    assert (await server.store.crash_report()).suspects == {key("charge")}
    await server.store.clear_suspects()
    assert (await server.store.crash_report()).suspects == frozenset()
    await server.stop()


async def test_a_cleared_suspect_that_runs_at_the_next_stop_is_one_again(server: Server) -> None:
    await server.start()
    (row,) = await server.run("charge")
    await server.crash()
    await server.start()
    row = await server.run_again(row)
    await server.crash()
    await server.start()
    await server.store.clear_suspects()
    await server.run_again(row)
    await server.crash()
    assert (await server.start()).suspects == {key("charge")}
    await server.stop()


async def test_a_lost_lease_of_a_living_process_is_not_a_stop(server: Server, clock: Clock) -> None:
    await server.start()
    (row,) = await server.run("charge")
    clock.advance(120_000)
    server.starts += 1
    await server.store.register_replica(server.owner, lease_ms=60_000)
    assert (await server.store.crash_report()).lost == ()
    await server.crash()
    # The process died later, and the attempt of its first lease died with it.
    assert [lost.task for lost in (await server.start()).lost] == [row]
    await server.stop()


async def test_a_step_that_crashed_alone_excuses_its_neighbours_once(server: Server) -> None:
    await server.start()
    (guilty,) = await server.run("charge")
    await server.store.mark_solo(guilty.instance_id, guilty.step_ref, guilty.attempt, alone=True)
    await server.crash()
    for excused in (True, False):
        await server.start()
        guilty = await server.run_again(guilty)
        (innocent,) = await server.run("reserve")
        await server.crash()

        report = await server.start()

        assert set(report.lost) >= {
            LostAttempt(guilty, alone=False, excused=False),
            LostAttempt(innocent, alone=False, excused=excused),
        }
        await server.crash()
    await server.start()
    await server.stop()


async def test_a_step_that_crashed_alone_is_remembered_while_it_backs_off(server: Server) -> None:
    await server.start()
    (guilty,) = await server.run("charge")
    await server.store.mark_solo(guilty.instance_id, guilty.step_ref, guilty.attempt, alone=True)
    await server.crash()
    await server.start()
    await server.release(guilty)
    await server.run("reserve")
    await server.crash()
    await server.start()
    await server.run_again(guilty)
    (innocent,) = await server.run("validate")
    await server.crash()

    report = await server.start()

    assert LostAttempt(innocent, alone=False, excused=True) in report.lost
    assert key("charge") in report.suspects
    await server.stop()
