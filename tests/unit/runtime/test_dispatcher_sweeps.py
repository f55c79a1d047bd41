"""The dispatcher: sweeps for waiting tasks, and reconciliation with the database."""

from __future__ import annotations

import asyncio

import pytest

from perdure_server.engine.rejections import AttemptStale
from perdure_server.runtime.dispatch import sweeper
from perdure_server.runtime.dispatch.protocol import (
    TaskKey,
    TaskStopped,
    key_of,
)
from perdure_server.runtime.ports import TaskToRun
from perdure_server.store.protocol import CommitUnknownError, StoreUnavailableError
from support.fake_executor import DONE, FakeExecutor, register
from support.fake_task_store import FakeTaskStore

# --- sweeping ------------------------------------------------------------------------------------------------


async def test_the_first_sweep_is_the_recovery(table: FakeTaskStore) -> None:
    table.add("new")
    table.add("released", attempt=3)
    table.add("lost", attempt=2, owner="gone")
    table.add("foreign", attempt=1, owner="r2")
    table.add("uncoded", workflow="other")
    table.live_owners.add("r2")
    executor = register(table)

    table.dispatcher.start()
    await executor.until(lambda: len(executor.tasks) == 3)

    assert set(executor.keys) == {
        TaskKey("new", "work", 1),
        TaskKey("released", "work", 4),
        TaskKey("lost", "work", 3),
    }


async def test_more_tasks_than_credits_all_run_within_the_credits(table: FakeTaskStore) -> None:
    for number in range(200):
        table.add(f"i{number}")
    executor = register(table, 7)
    table.dispatcher.start()
    held_max = 0
    for count in range(200):
        await executor.until(lambda count=count: len(executor.tasks) > count)
        held_max = max(held_max, table.dispatcher.tasks)
        table.dispatcher.report(executor.keys[count], DONE)
    await table.until_results(200)

    assert len(set(executor.keys)) == 200
    assert held_max <= 7


async def test_an_offered_task_is_taken_when_a_credit_is_freed(table: FakeTaskStore) -> None:
    executor = register(table, 1)
    table.dispatcher.start()
    assert table.grant("a")
    assert not table.grant("b")

    table.dispatcher.report(executor.keys[0], DONE)
    await executor.until(lambda: len(executor.tasks) == 2)

    assert executor.keys[1] == TaskKey("b", "work", 1)


async def test_tasks_without_a_handler_do_not_hide_later_ones(table: FakeTaskStore) -> None:
    for number in range(500):
        table.add(f"i{number}", "uncoded")
    table.add("last")
    executor = register(table, 2)
    table.dispatcher.start()

    await executor.until(lambda: bool(executor.tasks))

    assert executor.keys == [TaskKey("last", "work", 1)]


async def test_waiting_tasks_are_taken_when_their_own_executor_has_credits() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    for number in range(50):
        table.add(f"i{number}", "slow")
    idle, busy = register(table, 100, "quick"), register(table, 2, "slow")
    table.dispatcher.start()

    for count in range(50):
        await busy.until(lambda count=count: len(busy.tasks) > count)
        table.dispatcher.report(busy.keys[count], DONE)
    await table.until_results(50)

    assert idle.tasks == []
    await table.dispatcher.drain(0)


async def test_tasks_of_an_executor_without_credits_do_not_hide_later_ones(table: FakeTaskStore) -> None:
    for number in range(500):
        table.add(f"i{number}", "slow")
    table.add("last", "quick")
    idle, busy = register(table, 3, "quick"), register(table, 2, "slow")
    table.dispatcher.start()

    await idle.until(lambda: bool(idle.tasks))
    await busy.until(lambda: len(busy.tasks) == 2)


async def test_waiting_tasks_of_one_executor_cost_another_no_credits() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    for number in range(100):
        table.add(f"i{number}", "slow")
    quick, slow = register(table, 10, "quick"), register(table, 2, "slow")
    table.dispatcher.start()
    await slow.until(lambda: len(slow.tasks) == 2)

    granted = [table.grant(f"q{number}", "quick") for number in range(10)]

    assert all(granted)
    assert len(quick.tasks) == 10
    await table.dispatcher.drain(0)


async def test_tasks_of_a_full_executor_do_not_block_tasks_of_another() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    for number in range(1_000):
        table.add(f"i{number}", "slow")
    quick, slow = register(table, 3, "quick"), register(table, 2, "slow")
    table.dispatcher.start()
    await slow.until(lambda: len(slow.tasks) == 2)
    assert [table.grant(f"q{number}", "quick") for number in range(5)] == [True, True, True, False, False]

    for count in range(5):
        await quick.until(lambda count=count: len(quick.tasks) > count)
        table.dispatcher.report(quick.keys[count], DONE)
    await table.until_results(5)

    assert len(slow.tasks) == 2
    await table.dispatcher.drain(0)


async def test_a_free_credit_starts_no_sweep_if_only_other_tasks_wait() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    for number in range(10):
        table.add(f"i{number}", "slow")
    quick, _ = register(table, 4, "quick"), register(table, 0, "slow")
    table.dispatcher.start()
    table.dispatcher.offer("w", 1, "slow")
    await table.dispatcher.quiesce()
    sweeps = len(table.limits)

    for count in range(10):
        assert table.grant(f"q{count}", "quick")
        table.dispatcher.report(quick.keys[count], DONE)
        await table.dispatcher.quiesce()

    assert len(table.limits) == sweeps
    await table.dispatcher.drain(0)


async def test_two_executors_with_waiting_tasks_are_both_served() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    for number in range(100):
        table.add(f"s{number}", "slow")
    for number in range(100):
        table.add(f"q{number}", "quick")
    quick, slow = register(table, 20, "quick"), register(table, 2, "slow")
    run = quick.run

    def run_and_end(task: TaskToRun) -> None:
        run(task)
        asyncio.get_running_loop().call_soon(table.dispatcher.report, key_of(task), DONE)

    quick.run = run_and_end  # type: ignore[method-assign]
    table.dispatcher.start()

    for count in range(100):
        await slow.until(lambda count=count: len(slow.tasks) > count)
        table.dispatcher.report(slow.keys[count], DONE)
    await table.until_results(200)

    assert len(quick.tasks) == 100
    await table.dispatcher.drain(0)


async def test_two_executors_of_a_step_share_its_tasks_within_their_credits() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    for number in range(40):
        table.add(f"i{number}")
    hired = register(table, 3), register(table, 5)
    table.dispatcher.start()
    for executor, max_credits in zip(hired, (3, 5), strict=True):
        await executor.until(
            lambda executor=executor, max_credits=max_credits: len(executor.tasks) == max_credits
        )

    ended: set[TaskKey] = set()

    def held(executor: FakeExecutor) -> list[TaskKey]:
        return [key for key in executor.keys if key not in ended]

    while len(ended) < 40:
        assert len(held(hired[0])) <= 3
        assert len(held(hired[1])) <= 5
        for key in held(hired[0]) + held(hired[1]):
            ended.add(key)
            table.dispatcher.report(key, DONE)
        await table.until(lambda: len(ended) == 40 or bool(held(hired[0]) + held(hired[1])))

    assert len({*hired[0].keys, *hired[1].keys}) == 40
    await table.dispatcher.drain(0)


async def test_a_task_that_becomes_ready_during_a_sweep_is_taken_by_the_next() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    executor = register(table, 1)

    async def offer() -> None:
        table.add("late")
        table.dispatcher.offer("w", 1, "work")

    table.while_reading = [offer]
    table.dispatcher.start()

    await executor.until(lambda: bool(executor.tasks))
    await table.dispatcher.drain(0)


@pytest.mark.parametrize("ends_meanwhile", [True, False])
async def test_a_task_whose_credit_was_used_during_a_read_is_taken_later(
    ends_meanwhile: bool,
) -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    executor = register(table, 1)
    table.add("first")

    async def use_the_credit() -> None:
        assert table.grant("second")
        if ends_meanwhile:
            table.dispatcher.report(executor.keys[0], DONE)
            await table.until_results(1)

    table.while_reading = [use_the_credit]
    table.dispatcher.start()
    await executor.until(lambda: bool(executor.tasks))
    await table.until(lambda: not table.while_reading)
    if not ends_meanwhile:
        table.dispatcher.report(executor.keys[0], DONE)

    await executor.until(lambda: len(executor.tasks) == 2)

    assert executor.keys[1] == TaskKey("first", "work", 1)
    await table.dispatcher.drain(0)


async def test_waiting_tasks_are_taken_when_an_executor_gets_its_first_credit() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    table.add("a")
    executor = register(table, 0)
    table.dispatcher.start()
    await table.dispatcher.quiesce()

    table.dispatcher.set_credits(executor, 1)
    await executor.until(lambda: bool(executor.tasks))

    await table.dispatcher.drain(0)


async def test_under_a_new_id_tasks_of_the_old_one_are_taken_at_once() -> None:
    table = FakeTaskStore(sweep_ms=60_000, reconcile_ms=60_000)
    executor = register(table)
    table.add("lost", attempt=1, owner="r1")
    table.dispatcher.start()
    await table.dispatcher.quiesce()
    assert executor.tasks == []

    table.live_owners = {"r9"}
    table.dispatcher.replica_changed("r9")
    await executor.until(lambda: bool(executor.tasks))

    assert executor.keys == [TaskKey("lost", "work", 2)]
    await table.dispatcher.drain(0)


async def test_unusable_rows_are_skipped_and_do_not_keep_sweeps_running() -> None:
    table = FakeTaskStore(sweep_ms=60_000)
    refusals = 40
    table.take_failures = [AttemptStale("i", "work", 0)] * refusals
    for number in range(refusals):
        table.add(f"i{number}")
    executor = register(table, 2)
    table.dispatcher.start()
    await table.dispatcher.quiesce()
    assert table.take_failures == []
    sweeps = len(table.limits)

    table.add("last")
    table.dispatcher.offer("w", 1, "work")
    await executor.until(lambda: bool(executor.tasks))
    table.dispatcher.report(executor.keys[0], DONE)
    await table.dispatcher.quiesce()

    assert executor.keys == [TaskKey("last", "work", 1)]
    assert len(table.limits) <= sweeps + 2
    await table.dispatcher.drain(0)


async def test_unusable_rows_beyond_the_read_limit_wait_for_the_next_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_ROWS_MAX", 20)
    table = FakeTaskStore(sweep_ms=60_000)
    table.take_failures = [AttemptStale("i", "work", 0)] * 60
    for number in range(60):
        table.add(f"i{number}")
    register(table, 2)
    table.dispatcher.start()

    await table.dispatcher.quiesce()

    assert max(table.limits) == 2 + 20
    await table.dispatcher.drain(0)


async def test_sweeps_survive_an_unavailable_store_and_bugs(table: FakeTaskStore) -> None:
    table.sweep_failures = [
        StoreUnavailableError("away"),
        RuntimeError("a bug"),
        StoreUnavailableError("away"),
    ]
    table.take_failures = [StoreUnavailableError("away"), CommitUnknownError("away")]
    table.add("a")
    executor = register(table, 1)
    table.dispatcher.start()

    await executor.until(lambda: bool(executor.tasks))

    assert table.dispatcher.healthy()
    assert table.failures == []


async def test_an_attempt_with_a_lost_effect_is_released_and_taken_again(table: FakeTaskStore) -> None:
    table.lose_effects = 1
    table.add("a")
    executor = register(table)
    table.dispatcher.start()

    await executor.until(lambda: bool(executor.tasks))

    assert table.taken == [TaskKey("a", "work", 1), TaskKey("a", "work", 2)]
    assert table.released == [TaskKey("a", "work", 1)]
    assert executor.keys == [TaskKey("a", "work", 2)]


async def test_an_effect_after_the_release_of_its_attempt_is_not_run(table: FakeTaskStore) -> None:
    table.lose_effects = 1
    table.add("a")
    executor = register(table)
    table.dispatcher.start()
    await executor.until(lambda: bool(executor.tasks))

    late = TaskKey("a", "work", 1)
    table.dispatcher.run(
        TaskToRun(
            instance_id="a",
            workflow="w",
            version=1,
            step_ref="work",
            attempt=1,
            owner="r1",
            input="{}",
            steps={},
            attempt_timeout_ms=None,
        )
    )

    assert late not in executor.keys


async def test_an_attempt_that_the_database_no_longer_knows_is_stopped(table: FakeTaskStore) -> None:
    executor = register(table)
    table.grant("a")
    del table.rows["a", "work"]
    table.dispatcher.start()

    await executor.until(lambda: bool(executor.stopped))

    table.dispatcher.report(executor.keys[0], TaskStopped())
    assert table.dispatcher.tasks == 0


async def test_under_a_new_id_running_attempts_count_unless_they_were_taken(table: FakeTaskStore) -> None:
    executor = register(table)
    table.grant("mine")
    table.grant("taken")
    table.live_owners = {"r9", "r2"}
    table.add("taken", attempt=2, owner="r2")
    table.dispatcher.replica_changed("r9")
    table.dispatcher.start()
    assert table.dispatcher.reserve("w", 1).owner == "r9"

    for key in executor.keys:
        table.dispatcher.report(key, DONE)
    await table.until(lambda: bool(table.rejected) and bool(table.results))

    assert [key for key, _ in table.results] == [TaskKey("mine", "work", 1)]
