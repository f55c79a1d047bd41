"""The dispatcher: credits, the fast way, sweeps, reconciliation, reports and the drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from perdure_server.engine import commands
from perdure_server.engine.commands import NO_GRANT
from perdure_server.engine.rejections import AttemptStale, PayloadTooLarge
from perdure_server.runtime import dispatcher
from perdure_server.runtime.dispatcher import GRANT_SLOTS_MAX, REPORT_TRIES_MAX, WITHOUT_CODE_MAX
from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.reservations import RESERVATION_SECONDS_MAX, Reservations
from perdure_server.runtime.tasks import (
    TaskFailed,
    TaskFinished,
    TaskKey,
    TaskReleased,
    TaskStopped,
    TaskSuspended,
    key_of,
)
from perdure_server.store.protocol import OutcomeUnknown, Unavailable
from task_table import TaskTable

DONE = TaskFinished("done", None)


class Hands:
    """A client that holds what it is given until a test says how it ended."""

    def __init__(self) -> None:
        self.tasks: list[TaskToRun] = []
        self.stopped: list[TaskKey] = []
        self._changed = asyncio.Event()

    def run(self, task: TaskToRun) -> None:
        self.tasks.append(task)
        self._changed.set()

    def stop(self, key: TaskKey) -> None:
        self.stopped.append(key)
        self._changed.set()

    @property
    def keys(self) -> list[TaskKey]:
        return [key_of(task) for task in self.tasks]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def table() -> AsyncIterator[TaskTable]:
    table = TaskTable()
    yield table
    await table.dispatcher.drain(0)


def hire(table: TaskTable, credits_max: int = 10, *step_refs: str) -> Hands:
    hands = Hands()
    table.dispatcher.register(hands, {("w", 1): frozenset(step_refs or {"work"})}, credits_max)
    return hands


# --- credits -------------------------------------------------------------------------------------------------


async def test_no_slots_are_granted_without_code_or_credit(table: TaskTable) -> None:
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    hire(table, 2)

    assert table.dispatcher.reserve("w", 2) is NO_GRANT
    assert table.dispatcher.reserve("other", 1) is NO_GRANT
    grant = table.dispatcher.reserve("w", 1)
    assert (grant.owner, grant.slots, grant.step_refs) == ("r1", 2, {"work"})
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    table.dispatcher.give_back(grant, 2)
    assert table.dispatcher.reserve("w", 1).slots == 2


async def test_one_commit_gets_a_bounded_number_of_slots(table: TaskTable) -> None:
    hire(table, 100)

    assert table.dispatcher.reserve("w", 1).slots == GRANT_SLOTS_MAX


async def test_a_credit_is_in_use_until_the_result_is_stored(table: TaskTable) -> None:
    hands = hire(table, 1)
    assert table.grant("a")
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    table.dispatcher.done(hands.keys[0], DONE)
    assert table.dispatcher.reserve("w", 1) is NO_GRANT

    await table.until_results(1)
    await asyncio.sleep(0)

    assert table.dispatcher.reserve("w", 1).slots == 1


async def test_a_grant_covers_the_steps_of_every_client_with_room(table: TaskTable) -> None:
    first, second = hire(table, 1, "a"), hire(table, 1, "b")
    grant = table.dispatcher.reserve("w", 1)
    assert grant.step_refs == {"a", "b"}
    table.dispatcher.give_back(grant, grant.slots)
    assert table.grant("i", "a")

    assert table.dispatcher.reserve("w", 1).step_refs == {"b"}
    assert [len(first.tasks), len(second.tasks)] == [1, 0]


async def test_work_goes_to_the_client_with_most_room(table: TaskTable) -> None:
    first, second = hire(table, 2), hire(table, 5)
    for name in "abc":
        assert table.grant(name)

    assert [len(first.tasks), len(second.tasks)] == [0, 3]


async def test_tasks_that_wait_keep_half_of_the_credits(table: TaskTable) -> None:
    hire(table, 4)
    table.dispatcher.offer("w", 1, "work")

    grants = [table.dispatcher.reserve("w", 1).slots for _ in range(3)]

    assert grants == [2, 0, 0]


def told_without_code(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [
        (vars(record)["workflow"], vars(record)["version"], vars(record)["step_ref"])
        for record in caplog.records
        if record.message == "a step is ready that this server has no code for"
    ]


async def test_a_ready_step_that_nobody_has_code_for_is_told_once(
    table: TaskTable, caplog: pytest.LogCaptureFixture
) -> None:
    hire(table, 1, "work")

    for _ in range(3):
        table.dispatcher.offer("w", 1, "work")
        table.dispatcher.offer("w", 1, "other")
        table.dispatcher.offer("w", 2, "work")
        table.dispatcher.offer("stranger", 1, "work")

    assert told_without_code(caplog) == [("w", 1, "other"), ("w", 2, "work"), ("stranger", 1, "work")]


async def test_of_many_steps_without_code_a_thousand_are_told(
    table: TaskTable, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(WITHOUT_CODE_MAX + 10):
        table.dispatcher.offer(f"w{number}", 1, "work")

    assert len(told_without_code(caplog)) == WITHOUT_CODE_MAX


def test_a_reservation_that_nobody_came_back_for_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    second = 100.0
    monkeypatch.setattr("time.monotonic", lambda: second)
    reserved = Reservations()
    reserved.add(3)
    reserved.take(2)
    for _ in range(RESERVATION_SECONDS_MAX + 1):
        second += 1
        reserved.add(5)
        assert reserved.total >= 6 - (second > 100 + RESERVATION_SECONDS_MAX)
        reserved.take(5)

    second += 1
    reserved.add(1)
    assert reserved.total == 1
    reserved.take(9)
    assert reserved.total == 0


# --- running -------------------------------------------------------------------------------------------------


async def test_an_attempt_is_never_run_twice(table: TaskTable) -> None:
    hands = hire(table)
    table.grant("a")

    table.dispatcher.run(hands.tasks[0])

    assert len(hands.tasks) == 1


async def test_only_the_first_result_of_an_attempt_counts(table: TaskTable) -> None:
    hands = hire(table)
    table.grant("a")
    table.dispatcher.done(hands.keys[0], TaskSuspended())
    table.dispatcher.done(hands.keys[0], DONE)
    table.dispatcher.done(TaskKey("never", "seen", 1), DONE)

    await table.until_results(1)

    assert isinstance(table.commands()[0], commands.SuspendTask)
    assert table.refused == []


async def test_each_kind_of_result_becomes_its_command(table: TaskTable) -> None:
    hands = hire(table)
    for name in "abc":
        table.grant(name)
    first, second, third = hands.keys
    table.dispatcher.done(first, DONE)
    table.dispatcher.done(second, TaskSuspended())
    table.dispatcher.done(third, TaskFailed("Boom", "why", retryable=True))

    await table.until_results(3)

    finish, suspend, fail = table.commands()
    assert isinstance(finish, commands.FinishTask)
    assert (finish.event, finish.output) == ("done", None)
    assert isinstance(suspend, commands.SuspendTask)
    assert isinstance(fail, commands.FailTask)
    assert (fail.type, fail.message, fail.retryable) == ("Boom", "why", True)
    assert 0 <= fail.jitter < 1


@pytest.mark.parametrize("trouble", [Unavailable("away"), OutcomeUnknown("away"), RuntimeError("a bug")])
async def test_a_result_is_submitted_until_the_store_answers(table: TaskTable, trouble: Exception) -> None:
    hands = hire(table)
    table.grant("a")
    table.troubles = [trouble] * 3
    table.dispatcher.done(hands.keys[0], DONE)

    await table.until_results(1)

    assert table.troubles == []


async def test_a_result_that_is_stale_is_dropped(table: TaskTable) -> None:
    hands = hire(table, 1)
    table.grant("a")
    del table.rows["a", "work"]
    table.dispatcher.done(hands.keys[0], DONE)

    await table.until(lambda: bool(table.refused))
    await asyncio.sleep(0)

    assert table.dispatcher.tasks == 0
    assert table.dispatcher.reserve("w", 1).slots == 1


async def test_a_result_that_can_never_be_stored_becomes_a_failure(table: TaskTable) -> None:
    hands = hire(table)
    table.grant("a")
    table.troubles = [PayloadTooLarge("output", 2, 1)]
    table.dispatcher.done(hands.keys[0], DONE)

    await table.until_results(1)

    (fail,) = table.commands()
    assert isinstance(fail, commands.FailTask)
    assert (fail.type, fail.retryable) == ("PayloadTooLarge", False)


async def test_a_stopped_attempt_holds_its_credit_until_it_ends_and_its_result_is_dropped(
    table: TaskTable,
) -> None:
    hands = hire(table, 1)
    table.grant("a")
    key = hands.keys[0]
    table.dispatcher.stop(*key)
    table.dispatcher.stop(*key)
    table.dispatcher.stop("unknown", "work", 1)
    assert hands.stopped == [key]
    assert table.dispatcher.reserve("w", 1) is NO_GRANT

    table.dispatcher.done(key, DONE)

    assert table.dispatcher.reserve("w", 1).slots == 1
    assert table.results == []


async def test_a_task_whose_taking_was_refused_is_tried_again_though_the_stores_clock_stands_still(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure_server.runtime.dispatcher.REFUSED_MS", 20)
    hire(table)
    table.take_troubles = [AttemptStale("a", "work", 0)]
    table.add("a")
    table.dispatcher.start()

    await table.until(lambda: bool(table.taken))

    assert table.taken == [TaskKey("a", "work", 1)]


async def test_a_task_that_its_executor_refuses_is_released_and_taken_anew(table: TaskTable) -> None:
    hands = hire(table)
    run, refusals = hands.run, [RuntimeError("a bug")]

    def refuse_once(task: TaskToRun) -> None:
        if refusals:
            raise refusals.pop()
        run(task)

    hands.run = refuse_once  # type: ignore[method-assign]
    table.grant("a")
    table.dispatcher.start()

    await hands.until(lambda: hands.keys == [TaskKey("a", "work", 2)])


async def test_what_a_client_that_is_gone_held_is_released_and_run_by_another(table: TaskTable) -> None:
    gone = hire(table)
    table.grant("a")
    table.dispatcher.start()
    other = hire(table)

    table.dispatcher.unregister(gone)
    await other.until(lambda: bool(other.tasks))

    assert other.keys == [TaskKey("a", "work", 2)]
    assert table.released == [TaskKey("a", "work", 1)]


async def test_the_dispatcher_knows_which_steps_have_code(table: TaskTable) -> None:
    hire(table, 1, "a", "b")

    assert table.dispatcher.has_code("w", 1, "b")
    assert not table.dispatcher.has_code("w", 1, "c")
    assert not table.dispatcher.has_code("w", 2, "a")


# --- sweeping ------------------------------------------------------------------------------------------------


async def test_recovery_is_the_first_sweep(table: TaskTable) -> None:
    table.add("new")
    table.add("released", attempt=3)
    table.add("lost", attempt=2, owner="gone")
    table.add("foreign", attempt=1, owner="r2")
    table.add("uncoded", workflow="other")
    table.live_owners.add("r2")
    hands = hire(table)

    table.dispatcher.start()
    await hands.until(lambda: len(hands.tasks) == 3)

    assert set(hands.keys) == {
        TaskKey("new", "work", 1),
        TaskKey("released", "work", 4),
        TaskKey("lost", "work", 3),
    }


async def test_more_tasks_than_credits_are_all_run_and_never_too_many_at_once(table: TaskTable) -> None:
    for number in range(200):
        table.add(f"i{number}")
    hands = hire(table, 7)
    table.dispatcher.start()
    held_max = 0
    for count in range(200):
        await hands.until(lambda count=count: len(hands.tasks) > count)
        held_max = max(held_max, table.dispatcher.tasks)
        table.dispatcher.done(hands.keys[count], DONE)
    await table.until_results(200)

    assert len(set(hands.keys)) == 200
    assert held_max <= 7


async def test_an_offered_task_is_taken_when_a_credit_comes_free(table: TaskTable) -> None:
    hands = hire(table, 1)
    table.dispatcher.start()
    assert table.grant("a")
    assert not table.grant("b")

    table.dispatcher.done(hands.keys[0], DONE)
    await hands.until(lambda: len(hands.tasks) == 2)

    assert hands.keys[1] == TaskKey("b", "work", 1)


async def test_tasks_without_code_do_not_hide_those_behind_them(table: TaskTable) -> None:
    for number in range(500):
        table.add(f"i{number}", "uncoded")
    table.add("last")
    hands = hire(table, 2)
    table.dispatcher.start()

    await hands.until(lambda: bool(hands.tasks))

    assert hands.keys == [TaskKey("last", "work", 1)]


async def test_tasks_that_wait_for_one_client_are_taken_as_its_credits_come_free_though_another_has_room() -> (
    None
):
    table = TaskTable(sweep_ms=60_000)
    for number in range(50):
        table.add(f"i{number}", "slow")
    idle, busy = hire(table, 100, "quick"), hire(table, 2, "slow")
    table.dispatcher.start()

    for count in range(50):
        await busy.until(lambda count=count: len(busy.tasks) > count)
        table.dispatcher.done(busy.keys[count], DONE)
    await table.until_results(50)

    assert idle.tasks == []
    await table.dispatcher.drain(0)


async def test_tasks_whose_client_has_no_credit_do_not_hide_those_behind_them(table: TaskTable) -> None:
    for number in range(500):
        table.add(f"i{number}", "slow")
    table.add("last", "quick")
    idle, busy = hire(table, 3, "quick"), hire(table, 2, "slow")
    table.dispatcher.start()

    await idle.until(lambda: bool(idle.tasks))
    await busy.until(lambda: len(busy.tasks) == 2)


async def test_tasks_that_wait_for_one_client_cost_another_no_credits() -> None:
    table = TaskTable(sweep_ms=60_000)
    for number in range(100):
        table.add(f"i{number}", "slow")
    quick, slow = hire(table, 10, "quick"), hire(table, 2, "slow")
    table.dispatcher.start()
    await slow.until(lambda: len(slow.tasks) == 2)

    granted = [table.grant(f"q{number}", "quick") for number in range(10)]

    assert all(granted)
    assert len(quick.tasks) == 10
    await table.dispatcher.drain(0)


async def test_a_task_behind_those_of_a_client_without_credit_is_taken_when_its_own_has_one() -> None:
    table = TaskTable(sweep_ms=60_000)
    for number in range(1_000):
        table.add(f"i{number}", "slow")
    quick, slow = hire(table, 3, "quick"), hire(table, 2, "slow")
    table.dispatcher.start()
    await slow.until(lambda: len(slow.tasks) == 2)
    assert [table.grant(f"q{number}", "quick") for number in range(5)] == [True, True, True, False, False]

    for count in range(5):
        await quick.until(lambda count=count: len(quick.tasks) > count)
        table.dispatcher.done(quick.keys[count], DONE)
    await table.until_results(5)

    assert len(slow.tasks) == 2
    await table.dispatcher.drain(0)


async def test_what_ends_wakes_no_sweep_while_only_another_clients_tasks_wait() -> None:
    table = TaskTable(sweep_ms=60_000)
    for number in range(10):
        table.add(f"i{number}", "slow")
    quick, _ = hire(table, 4, "quick"), hire(table, 0, "slow")
    table.dispatcher.start()
    table.dispatcher.offer("w", 1, "slow")
    await table.dispatcher.quiesce()
    sweeps = len(table.limits)

    for count in range(10):
        assert table.grant(f"q{count}", "quick")
        table.dispatcher.done(quick.keys[count], DONE)
        await table.dispatcher.quiesce()

    assert len(table.limits) == sweeps
    await table.dispatcher.drain(0)


async def test_two_clients_whose_tasks_wait_are_both_served_as_their_credits_come_free() -> None:
    table = TaskTable(sweep_ms=60_000)
    for number in range(100):
        table.add(f"s{number}", "slow")
    for number in range(100):
        table.add(f"q{number}", "quick")
    quick, slow = hire(table, 20, "quick"), hire(table, 2, "slow")
    run = quick.run

    def run_and_end(task: TaskToRun) -> None:
        run(task)
        asyncio.get_running_loop().call_soon(table.dispatcher.done, key_of(task), DONE)

    quick.run = run_and_end  # type: ignore[method-assign]
    table.dispatcher.start()

    for count in range(100):
        await slow.until(lambda count=count: len(slow.tasks) > count)
        table.dispatcher.done(slow.keys[count], DONE)
    await table.until_results(200)

    assert len(quick.tasks) == 100
    await table.dispatcher.drain(0)


async def test_two_clients_with_code_for_a_step_share_its_tasks_within_their_credits() -> None:
    table = TaskTable(sweep_ms=60_000)
    for number in range(40):
        table.add(f"i{number}")
    hired = hire(table, 3), hire(table, 5)
    table.dispatcher.start()
    for hands, credits_max in zip(hired, (3, 5), strict=True):
        await hands.until(lambda hands=hands, credits_max=credits_max: len(hands.tasks) == credits_max)

    ended: set[TaskKey] = set()

    def held(hands: Hands) -> list[TaskKey]:
        return [key for key in hands.keys if key not in ended]

    while len(ended) < 40:
        assert len(held(hired[0])) <= 3
        assert len(held(hired[1])) <= 5
        for key in held(hired[0]) + held(hired[1]):
            ended.add(key)
            table.dispatcher.done(key, DONE)
        await table.until(lambda: len(ended) == 40 or bool(held(hired[0]) + held(hired[1])))

    assert len({*hired[0].keys, *hired[1].keys}) == 40
    await table.dispatcher.drain(0)


async def test_a_task_that_becomes_ready_while_a_sweep_reads_is_taken_by_the_next() -> None:
    table = TaskTable(sweep_ms=60_000)
    hands = hire(table, 1)

    async def offer() -> None:
        table.add("late")
        table.dispatcher.offer("w", 1, "work")

    table.while_reading = [offer]
    table.dispatcher.start()

    await hands.until(lambda: bool(hands.tasks))
    await table.dispatcher.drain(0)


@pytest.mark.parametrize("ends_meanwhile", [True, False])
async def test_a_task_whose_credit_was_used_while_a_sweep_read_is_taken_by_the_next(
    ends_meanwhile: bool,
) -> None:
    table = TaskTable(sweep_ms=60_000)
    hands = hire(table, 1)
    table.add("first")

    async def use_the_credit() -> None:
        assert table.grant("second")
        if ends_meanwhile:
            table.dispatcher.done(hands.keys[0], DONE)
            await table.until_results(1)

    table.while_reading = [use_the_credit]
    table.dispatcher.start()
    await hands.until(lambda: bool(hands.tasks))
    await table.until(lambda: not table.while_reading)
    if not ends_meanwhile:
        table.dispatcher.done(hands.keys[0], DONE)

    await hands.until(lambda: len(hands.tasks) == 2)

    assert hands.keys[1] == TaskKey("first", "work", 1)
    await table.dispatcher.drain(0)


async def test_tasks_that_were_there_before_their_client_had_credits_are_taken_when_it_has() -> None:
    table = TaskTable(sweep_ms=60_000)
    table.add("a")
    hands = hire(table, 0)
    table.dispatcher.start()
    await table.dispatcher.quiesce()

    table.dispatcher.set_credits(hands, 1)
    await hands.until(lambda: bool(hands.tasks))

    await table.dispatcher.drain(0)


async def test_under_a_new_id_the_tasks_of_the_old_one_are_looked_for_at_once() -> None:
    table = TaskTable(sweep_ms=60_000, reconcile_ms=60_000)
    hands = hire(table)
    table.add("lost", attempt=1, owner="r1")
    table.dispatcher.start()
    await table.dispatcher.quiesce()
    assert hands.tasks == []

    table.live_owners = {"r9"}
    table.dispatcher.replica_changed("r9")
    await hands.until(lambda: bool(hands.tasks))

    assert hands.keys == [TaskKey("lost", "work", 2)]
    await table.dispatcher.drain(0)


async def test_rows_that_cannot_be_used_are_passed_and_keep_no_sweep_awake() -> None:
    table = TaskTable(sweep_ms=60_000)
    refusals = 40
    table.take_troubles = [AttemptStale("i", "work", 0)] * refusals
    for number in range(refusals):
        table.add(f"i{number}")
    hands = hire(table, 2)
    table.dispatcher.start()
    await table.dispatcher.quiesce()
    assert table.take_troubles == []
    sweeps = len(table.limits)

    table.add("last")
    table.dispatcher.offer("w", 1, "work")
    await hands.until(lambda: bool(hands.tasks))
    table.dispatcher.done(hands.keys[0], DONE)
    await table.dispatcher.quiesce()

    assert hands.keys == [TaskKey("last", "work", 1)]
    assert len(table.limits) <= sweeps + 2
    await table.dispatcher.drain(0)


async def test_with_more_rows_that_cannot_be_used_than_a_sweep_reads_time_wakes_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatcher, "SWEEP_ROWS_MAX", 20)
    table = TaskTable(sweep_ms=60_000)
    table.take_troubles = [AttemptStale("i", "work", 0)] * 60
    for number in range(60):
        table.add(f"i{number}")
    hire(table, 2)
    table.dispatcher.start()

    await table.dispatcher.quiesce()

    assert max(table.limits) == 2 + 20
    await table.dispatcher.drain(0)


async def test_sweeps_outlive_a_store_that_is_away_and_bugs(table: TaskTable) -> None:
    table.sweep_troubles = [Unavailable("away"), RuntimeError("a bug"), Unavailable("away")]
    table.take_troubles = [Unavailable("away"), OutcomeUnknown("away")]
    table.add("a")
    hands = hire(table, 1)
    table.dispatcher.start()

    await hands.until(lambda: bool(hands.tasks))

    assert table.dispatcher.healthy()
    assert table.troubles == []


async def test_an_attempt_whose_hand_over_was_lost_is_released_and_taken_anew(table: TaskTable) -> None:
    table.lose_effects = 1
    table.add("a")
    hands = hire(table)
    table.dispatcher.start()

    await hands.until(lambda: bool(hands.tasks))

    assert table.taken == [TaskKey("a", "work", 1), TaskKey("a", "work", 2)]
    assert table.released == [TaskKey("a", "work", 1)]
    assert hands.keys == [TaskKey("a", "work", 2)]


async def test_a_hand_over_that_comes_after_its_release_is_not_run(table: TaskTable) -> None:
    table.lose_effects = 1
    table.add("a")
    hands = hire(table)
    table.dispatcher.start()
    await hands.until(lambda: bool(hands.tasks))

    late = TaskKey("a", "work", 1)
    table.dispatcher.run(
        TaskToRun(
            instance_id="a",
            workflow="w",
            version=1,
            step_ref="work",
            attempt=1,
            owner="r1",
            initial="{}",
            steps={},
            attempt_timeout_ms=None,
        )
    )

    assert late not in hands.keys


async def test_an_attempt_that_the_database_no_longer_knows_is_stopped(table: TaskTable) -> None:
    hands = hire(table)
    table.grant("a")
    del table.rows["a", "work"]
    table.dispatcher.start()

    await hands.until(lambda: bool(hands.stopped))

    table.dispatcher.done(hands.keys[0], TaskStopped())
    assert table.dispatcher.tasks == 0


async def test_under_a_new_id_what_runs_goes_on_and_counts_unless_it_was_taken(table: TaskTable) -> None:
    hands = hire(table)
    table.grant("mine")
    table.grant("taken")
    table.live_owners = {"r9", "r2"}
    table.add("taken", attempt=2, owner="r2")
    table.dispatcher.replica_changed("r9")
    table.dispatcher.start()
    assert table.dispatcher.reserve("w", 1).owner == "r9"

    for key in hands.keys:
        table.dispatcher.done(key, DONE)
    await table.until(lambda: bool(table.refused) and bool(table.results))

    assert [key for key, _ in table.results] == [TaskKey("mine", "work", 1)]


# --- draining ------------------------------------------------------------------------------------------------


async def test_a_drain_takes_nothing_new_and_waits_for_results() -> None:
    table = TaskTable()
    hands = hire(table)
    table.dispatcher.start()
    table.grant("a")
    draining = asyncio.create_task(table.dispatcher.drain(10))
    await asyncio.sleep(0)
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    assert not draining.done()

    table.dispatcher.done(hands.keys[0], DONE)
    await draining

    assert [key for key, _ in table.results] == hands.keys
    assert table.released == []


async def test_what_does_not_end_within_the_grace_time_is_released_in_a_commit() -> None:
    table = TaskTable()
    hands = hire(table)
    table.dispatcher.start()
    table.grant("a")

    await table.dispatcher.drain(0.01)

    assert table.released == hands.keys
    assert hands.stopped == hands.keys
    table.dispatcher.done(hands.keys[0], DONE)
    assert table.results == []


async def test_a_task_that_is_handed_over_during_the_drain_is_released() -> None:
    table = TaskTable()
    hands = hire(table)
    row = table.add("a", attempt=1, owner="r1")
    await table.dispatcher.drain(0.01)

    table.dispatcher.run(table.task(row))
    await table.until(lambda: bool(table.released))

    assert hands.tasks == []


async def test_an_attempt_given_back_by_its_executor_is_taken_anew(table: TaskTable) -> None:
    hands = hire(table)
    table.dispatcher.start()
    table.grant("a")
    table.dispatcher.done(hands.keys[0], TaskReleased("not now"))

    await hands.until(lambda: len(hands.tasks) == 2)

    assert hands.keys[1] == TaskKey("a", "work", 2)


# --- counts --------------------------------------------------------------------------------------------------


async def test_attempts_are_counted_by_how_they_ended(table: TaskTable) -> None:
    hands = hire(table)
    results = [
        DONE,
        TaskSuspended(),
        TaskFailed("ValueError", "no", retryable=True),
        TaskFailed("AttemptTimeout", "slow", retryable=True, timed_out=True),
        TaskReleased("gone"),
    ]
    for name in "abcdef":
        assert table.grant(name)
    table.dispatcher.stop("f", "work", hands.keys[5].attempt)
    for key, result in zip(hands.keys, [*results, DONE], strict=True):
        table.dispatcher.done(key, result)
        table.dispatcher.done(key, DONE)  # does not count

    counts = table.dispatcher.ended.of("w")
    assert counts == {"ok": 2, "failed": 1, "timed_out": 1, "released": 1, "cancelled": 1}


def ended(table: TaskTable) -> dict[str, int]:
    """How attempts ended, without what never happened."""
    return {outcome: count for outcome, count in table.dispatcher.ended.of("w").items() if count}


async def test_what_a_drain_gives_back_is_counted_once_as_released() -> None:
    table = TaskTable()
    hands = hire(table)
    for name in "abc":
        assert table.grant(name)
    table.dispatcher.stop(*hands.keys[1])
    table.dispatcher.done(hands.keys[2], DONE)
    await table.until_results(1)

    await table.dispatcher.drain(0.01)
    assert ended(table) == {"ok": 1, "released": 1}
    for key in hands.keys:
        table.dispatcher.done(key, TaskStopped())

    assert ended(table) == {"ok": 1, "released": 1, "cancelled": 1}


async def test_what_is_handed_over_and_cannot_run_is_counted_as_released(table: TaskTable) -> None:
    row = table.add("a", attempt=1, owner="r1")
    table.dispatcher.run(table.task(row))
    table.dispatcher.run(table.task(row))
    await table.dispatcher.quiesce()

    assert table.released == [TaskKey("a", "work", 1)]
    assert ended(table) == {"released": 1}


async def test_what_nobody_ran_is_counted_once_as_released_however_often_that_is_tried(
    table: TaskTable,
) -> None:
    table.lose_effects = 1
    table.troubles = [Unavailable("away")] * 3
    table.add("a")
    hands = hire(table)
    table.dispatcher.start()

    await hands.until(lambda: bool(hands.tasks))
    table.dispatcher.done(hands.keys[0], DONE)
    await table.until_results(1)

    assert table.troubles == []
    assert ended(table) == {"released": 1, "ok": 1}
    assert sum(ended(table).values()) == len(table.taken), "as many as began"


async def test_a_result_that_was_given_up_is_not_counted_again_when_its_attempt_is_released(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "REPORT_TRIES_MAX", 1)
    hands = hire(table)
    assert table.grant("a")
    table.troubles = [Unavailable("away")]
    table.dispatcher.done(hands.keys[0], DONE)
    table.dispatcher.start()

    await hands.until(lambda: len(hands.tasks) == 2)

    assert table.released == [TaskKey("a", "work", 1)]
    assert ended(table) == {"ok": 1}


async def test_results_that_are_stored_late_or_never_are_counted(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "REPORT_BACKOFF_MS_MAX", 1)
    hands = hire(table)
    table.troubles = [Unavailable("away")] * 3
    assert table.grant("late")
    table.dispatcher.done(hands.keys[0], DONE)
    await table.until_results(1)
    assert (table.dispatcher.report_retries, table.dispatcher.reports_given_up) == (3, 0)

    table.troubles = [Unavailable("away")] * REPORT_TRIES_MAX
    assert table.grant("never")
    table.dispatcher.done(hands.keys[1], DONE)
    await table.dispatcher.quiesce()

    assert table.dispatcher.reports_given_up == 1
    assert table.dispatcher.report_retries == 3 + REPORT_TRIES_MAX - 1
