"""Recovery after an unclean stop: lost attempts, and suspects that run alone before other work."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from perdure_server.runtime import crash_recovery
from perdure_server.runtime.dispatch.protocol import TaskKey
from perdure_server.store.protocol import CrashReport, LostAttempt, StepKey, StoreUnavailableError, TaskRow
from support.fake_executor import DONE, FakeExecutor, register
from support.fake_task_store import FakeTaskStore

WORK = StepKey("w", 1, "work")
OTHER = StepKey("w", 1, "other")


@pytest.fixture
async def table() -> AsyncIterator[FakeTaskStore]:
    made = FakeTaskStore()
    yield made
    for key in made.dispatcher.attempts:
        made.dispatcher.report(key, DONE)
    await made.dispatcher.drain(5)


def lost(
    table: FakeTaskStore, instance_id: str, step_ref: str = "work", *, alone: bool = False
) -> LostAttempt:
    return LostAttempt(table.add(instance_id, step_ref, attempt=1, owner="gone"), alone)


def report(*attempts: LostAttempt, suspects: set[StepKey] | None = None, **more: object) -> CrashReport:
    return CrashReport(lost=attempts, suspects=frozenset(suspects or ()), **more)  # type: ignore[arg-type]


def keys(*names: str, attempt: int = 2) -> list[TaskKey]:
    return [TaskKey(name, "work", attempt) for name in names]


async def test_lost_attempts_are_released_as_lost_and_run_again(table: FakeTaskStore) -> None:
    executor = register(table)

    table.dispatcher.start(report(lost(table, "a"), lost(table, "b", alone=True)))
    await executor.until(lambda: len(executor.tasks) == 2)

    assert table.lost == [(TaskKey("a", "work", 1), False), (TaskKey("b", "work", 1), True)]
    assert sorted(executor.keys) == keys("a", "b")
    assert table.dispatcher.lost.sum("lost") == 2


async def test_an_excused_attempt_is_released_and_its_loss_does_not_count(table: FakeTaskStore) -> None:
    executor = register(table)
    row = table.add("a", attempt=1, owner="gone")

    table.dispatcher.start(report(LostAttempt(row, alone=False, excused=True)))
    await executor.until(lambda: len(executor.tasks) == 1)

    assert (table.lost, table.released) == ([], [TaskKey("a", "work", 1)])


async def test_a_lost_attempt_of_an_ended_instance_is_ignored(table: FakeTaskStore) -> None:
    executor = register(table)
    gone = LostAttempt(TaskRow("gone", "work", "w", 1, 1, "old"), alone=False)

    table.dispatcher.start(report(gone, lost(table, "a")))
    await executor.until(lambda: len(executor.tasks) == 1)

    assert table.dispatcher.lost.sum("lost") == 1


async def test_releases_wait_for_the_database(table: FakeTaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_recovery, "RELEASE_RETRY_SECONDS", 0)
    executor = register(table)
    table.failures = [StoreUnavailableError("away")] * 3

    table.dispatcher.start(report(lost(table, "a")))
    await executor.until(lambda: len(executor.tasks) == 1)

    assert table.lost == [(TaskKey("a", "work", 1), False)]


async def test_suspects_run_one_at_a_time_before_other_work(table: FakeTaskStore) -> None:
    executor = register(table, 10, "work", "other")
    attempts = [lost(table, "a"), lost(table, "b")]
    table.add("innocent", "other")
    assert not table.dispatcher.tasks

    table.dispatcher.start(report(*attempts, suspects={WORK}))
    for count, key in enumerate(keys("a", "b"), 1):
        await executor.until(lambda count=count: len(executor.tasks) == count)
        assert executor.keys[-1] == key
        assert table.dispatcher.attempts == [key]
        assert not table.grant(f"new-{count}", "other"), "new work waits too"
        table.dispatcher.report(key, DONE)
    await executor.until(lambda: len(executor.tasks) == 5)

    assert {task.instance_id for task in executor.tasks[2:]} == {"innocent", "new-1", "new-2"}
    assert table.solo == [(key, True) for key in keys("a", "b")]
    assert table.cleared == [[WORK], None]


async def test_a_suspect_that_survives_its_time_runs_on(
    table: FakeTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table.dispatcher, "alone_seconds", 0.01)
    executor = register(table)

    table.dispatcher.start(report(lost(table, "a"), lost(table, "b"), suspects={WORK}))
    await executor.until(lambda: len(executor.tasks) == 2)
    await table.until(lambda: table.cleared[-1:] == [None])

    assert sorted(table.dispatcher.attempts) == keys("a", "b")
    first, second = keys("a", "b")
    # The second one is not alone, since the first one still runs.
    assert table.solo == [(first, True), (first, False), (second, False)]


async def test_other_work_starts_after_the_time_limit_for_suspects(
    table: FakeTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table.dispatcher, "suspects_seconds", 0.05)
    executor = register(table, 4)
    attempts = [lost(table, name) for name in "abcd"]

    table.dispatcher.start(report(*attempts, suspects={WORK}))
    await executor.until(lambda: len(executor.tasks) == 4)

    assert table.cleared[-1] is None
    assert [key for key, alone in table.solo if alone] == keys("a")


async def test_attempts_that_crashed_alone_come_first_and_survivors_last(table: FakeTaskStore) -> None:
    executor = register(table, 10, "work", "other")
    attempts = [lost(table, "a"), lost(table, "b"), lost(table, "c", alone=True), lost(table, "d", "other")]
    survived = frozenset({("a", "work")})

    table.dispatcher.start(report(*attempts, suspects={WORK, OTHER}, survived=survived))
    for count in range(1, 5):
        await executor.until(lambda count=count: len(executor.tasks) == count)
        table.dispatcher.report(executor.keys[-1], DONE)

    assert [key.instance_id for key in executor.keys] == ["c", "d", "b", "a"]


async def test_unstarted_attempts_run_alone_only_if_their_step_crashed_alone(
    table: FakeTaskStore,
) -> None:
    executor = register(table)
    attempts = [lost(table, "a", alone=True)]
    table.add("new")

    table.dispatcher.start(report(*attempts, suspects={WORK}, crashed_alone=frozenset({WORK})))
    for count in (1, 2):
        await executor.until(lambda count=count: len(executor.tasks) == count)
        assert len(table.dispatcher.attempts) == 1
        table.dispatcher.report(executor.keys[-1], DONE)
    await table.until(lambda: table.cleared[-1:] == [None])

    assert [key for key, _ in table.solo] == [*keys("a"), *keys("new", attempt=1)]


async def test_suspects_without_code_hold_nothing_up(table: FakeTaskStore) -> None:
    executor = register(table, 10, "other")
    lost_attempt = lost(table, "a")
    table.add("innocent", "other")

    table.dispatcher.start(report(lost_attempt, suspects={WORK}))
    await executor.until(lambda: len(executor.tasks) == 1)

    assert executor.tasks[0].instance_id == "innocent"
    assert table.cleared == [None]


async def test_a_suspect_that_cannot_be_taken_delays_nothing(table: FakeTaskStore) -> None:
    executor: FakeExecutor = register(table)
    table.take_failures = [StoreUnavailableError("away")]

    table.dispatcher.start(report(lost(table, "a"), lost(table, "b"), suspects={WORK}))
    await executor.until(lambda: len(executor.tasks) == 1)
    assert executor.tasks[0].instance_id == "b"
    table.dispatcher.report(executor.keys[-1], DONE)
    await executor.until(lambda: len(executor.tasks) == 2)

    assert executor.tasks[1].instance_id == "a"
