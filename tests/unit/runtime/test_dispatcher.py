"""The dispatcher: credits, granted tasks, results, the drain, and its counters."""

from __future__ import annotations

import asyncio

import pytest

from perdure_server.engine import commands
from perdure_server.engine.commands import NO_GRANT
from perdure_server.engine.rejections import AttemptStale, PayloadTooLarge
from perdure_server.runtime.dispatch import result_reporter
from perdure_server.runtime.dispatch.credits import GRANT_SLOTS_MAX
from perdure_server.runtime.dispatch.dispatcher import MISSING_HANDLERS_LOGGED_MAX
from perdure_server.runtime.dispatch.protocol import (
    TaskFailed,
    TaskKey,
    TaskReleased,
    TaskStopped,
    TaskSuspended,
)
from perdure_server.runtime.dispatch.reservations import RESERVATION_SECONDS_MAX, Reservations
from perdure_server.runtime.dispatch.result_reporter import REPORT_TRIES_MAX
from perdure_server.runtime.ports import TaskToRun
from perdure_server.store.protocol import CommitUnknownError, StoreUnavailableError
from support.fake_executor import DONE, register
from support.fake_task_store import FakeTaskStore

# --- credits -------------------------------------------------------------------------------------------------


async def test_no_slots_are_granted_without_a_handler_or_a_credit(table: FakeTaskStore) -> None:
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    register(table, 2)

    assert table.dispatcher.reserve("w", 2) is NO_GRANT
    assert table.dispatcher.reserve("other", 1) is NO_GRANT
    grant = table.dispatcher.reserve("w", 1)
    assert (grant.owner, grant.slots, grant.step_refs) == ("r1", 2, {"work"})
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    table.dispatcher.release(grant, 2)
    assert table.dispatcher.reserve("w", 1).slots == 2


async def test_one_commit_gets_a_bounded_number_of_slots(table: FakeTaskStore) -> None:
    register(table, 100)

    assert table.dispatcher.reserve("w", 1).slots == GRANT_SLOTS_MAX


async def test_a_credit_is_in_use_until_the_result_is_stored(table: FakeTaskStore) -> None:
    executor = register(table, 1)
    assert table.grant("a")
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    table.dispatcher.report(executor.keys[0], DONE)
    assert table.dispatcher.reserve("w", 1) is NO_GRANT

    await table.until_results(1)
    await asyncio.sleep(0)

    assert table.dispatcher.reserve("w", 1).slots == 1


async def test_a_grant_covers_the_steps_of_every_executor_with_room(table: FakeTaskStore) -> None:
    first, second = register(table, 1, "a"), register(table, 1, "b")
    grant = table.dispatcher.reserve("w", 1)
    assert grant.step_refs == {"a", "b"}
    table.dispatcher.release(grant, grant.slots)
    assert table.grant("i", "a")

    assert table.dispatcher.reserve("w", 1).step_refs == {"b"}
    assert [len(first.tasks), len(second.tasks)] == [1, 0]


async def test_work_goes_to_the_executor_with_the_most_room(table: FakeTaskStore) -> None:
    first, second = register(table, 2), register(table, 5)
    for name in "abc":
        assert table.grant(name)

    assert [len(first.tasks), len(second.tasks)] == [0, 3]


async def test_waiting_tasks_keep_half_of_the_credits(table: FakeTaskStore) -> None:
    register(table, 4)
    table.dispatcher.offer("w", 1, "work")

    grants = [table.dispatcher.reserve("w", 1).slots for _ in range(3)]

    assert grants == [2, 0, 0]


def logged_without_handler(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [
        (vars(record)["workflow"], vars(record)["version"], vars(record)["step_ref"])
        for record in caplog.records
        if record.message == "no handler for ready step"
    ]


async def test_a_ready_step_without_a_handler_is_logged_once(
    table: FakeTaskStore, caplog: pytest.LogCaptureFixture
) -> None:
    register(table, 1, "work")

    for _ in range(3):
        table.dispatcher.offer("w", 1, "work")
        table.dispatcher.offer("w", 1, "other")
        table.dispatcher.offer("w", 2, "work")
        table.dispatcher.offer("stranger", 1, "work")

    assert logged_without_handler(caplog) == [("w", 1, "other"), ("w", 2, "work"), ("stranger", 1, "work")]


async def test_at_most_a_thousand_steps_without_a_handler_are_logged(
    table: FakeTaskStore, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MISSING_HANDLERS_LOGGED_MAX + 10):
        table.dispatcher.offer(f"w{number}", 1, "work")

    assert len(logged_without_handler(caplog)) == MISSING_HANDLERS_LOGGED_MAX


def test_a_reservation_that_is_never_returned_expires(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_an_attempt_is_never_run_twice(table: FakeTaskStore) -> None:
    executor = register(table)
    table.grant("a")

    table.dispatcher.run(executor.tasks[0])

    assert len(executor.tasks) == 1


async def test_only_the_first_result_of_an_attempt_counts(table: FakeTaskStore) -> None:
    executor = register(table)
    table.grant("a")
    table.dispatcher.report(executor.keys[0], TaskSuspended())
    table.dispatcher.report(executor.keys[0], DONE)
    table.dispatcher.report(TaskKey("never", "seen", 1), DONE)

    await table.until_results(1)

    assert isinstance(table.commands()[0], commands.SuspendTask)
    assert table.rejected == []


async def test_each_kind_of_result_becomes_its_command(table: FakeTaskStore) -> None:
    executor = register(table)
    for name in "abc":
        table.grant(name)
    first, second, third = executor.keys
    table.dispatcher.report(first, DONE)
    table.dispatcher.report(second, TaskSuspended())
    table.dispatcher.report(third, TaskFailed("Boom", "why", retryable=True))

    await table.until_results(3)

    finish, suspend, fail = table.commands()
    assert isinstance(finish, commands.FinishTask)
    assert (finish.event, finish.output) == ("done", None)
    assert isinstance(suspend, commands.SuspendTask)
    assert isinstance(fail, commands.FailTask)
    assert (fail.type, fail.message, fail.retryable) == ("Boom", "why", True)
    assert 0 <= fail.jitter < 1


@pytest.mark.parametrize(
    "trouble", [StoreUnavailableError("away"), CommitUnknownError("away"), RuntimeError("a bug")]
)
async def test_a_result_is_submitted_until_the_store_answers(
    table: FakeTaskStore, trouble: Exception
) -> None:
    executor = register(table)
    table.grant("a")
    table.failures = [trouble] * 3
    table.dispatcher.report(executor.keys[0], DONE)

    await table.until_results(1)

    assert table.failures == []


async def test_a_result_that_is_stale_is_dropped(table: FakeTaskStore) -> None:
    executor = register(table, 1)
    table.grant("a")
    del table.rows["a", "work"]
    table.dispatcher.report(executor.keys[0], DONE)

    await table.until(lambda: bool(table.rejected))
    await asyncio.sleep(0)

    assert table.dispatcher.tasks == 0
    assert table.dispatcher.reserve("w", 1).slots == 1


async def test_a_result_that_can_never_be_stored_becomes_a_failure(table: FakeTaskStore) -> None:
    executor = register(table)
    table.grant("a")
    table.failures = [PayloadTooLarge("output", 2, 1)]
    table.dispatcher.report(executor.keys[0], DONE)

    await table.until_results(1)

    (fail,) = table.commands()
    assert isinstance(fail, commands.FailTask)
    assert (fail.type, fail.retryable) == ("PayloadTooLarge", False)


async def test_a_stopped_attempt_keeps_its_credit_until_it_ends(
    table: FakeTaskStore,
) -> None:
    executor = register(table, 1)
    table.grant("a")
    key = executor.keys[0]
    table.dispatcher.stop(*key)
    table.dispatcher.stop(*key)
    table.dispatcher.stop("unknown", "work", 1)
    assert executor.stopped == [key]
    assert table.dispatcher.reserve("w", 1) is NO_GRANT

    table.dispatcher.report(key, DONE)

    assert table.dispatcher.reserve("w", 1).slots == 1
    assert table.results == []


async def test_a_rejected_take_is_retried_although_the_store_clock_stopped(
    table: FakeTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure_server.runtime.dispatch.sweeper.REJECTED_MS", 20)
    register(table)
    table.take_failures = [AttemptStale("a", "work", 0)]
    table.add("a")
    table.dispatcher.start()

    await table.until(lambda: bool(table.taken))

    assert table.taken == [TaskKey("a", "work", 1)]


async def test_a_task_that_its_executor_rejects_is_taken_again(table: FakeTaskStore) -> None:
    executor = register(table)
    run, refusals = executor.run, [RuntimeError("a bug")]

    def refuse_once(task: TaskToRun) -> None:
        if refusals:
            raise refusals.pop()
        run(task)

    executor.run = refuse_once  # type: ignore[method-assign]
    table.grant("a")
    table.dispatcher.start()

    await executor.until(lambda: executor.keys == [TaskKey("a", "work", 2)])


async def test_attempts_of_a_removed_executor_are_run_by_another(table: FakeTaskStore) -> None:
    gone = register(table)
    table.grant("a")
    table.dispatcher.start()
    other = register(table)

    table.dispatcher.unregister(gone)
    await other.until(lambda: bool(other.tasks))

    assert other.keys == [TaskKey("a", "work", 2)]
    assert table.released == [TaskKey("a", "work", 1)]


async def test_the_dispatcher_knows_which_steps_have_handlers(table: FakeTaskStore) -> None:
    register(table, 1, "a", "b")

    assert table.dispatcher.has_handler("w", 1, "b")
    assert not table.dispatcher.has_handler("w", 1, "c")
    assert not table.dispatcher.has_handler("w", 2, "a")


# --- draining ------------------------------------------------------------------------------------------------


async def test_a_drain_takes_nothing_new_and_waits_for_results() -> None:
    table = FakeTaskStore()
    executor = register(table)
    table.dispatcher.start()
    table.grant("a")
    draining = asyncio.create_task(table.dispatcher.drain(10))
    await asyncio.sleep(0)
    assert table.dispatcher.reserve("w", 1) is NO_GRANT
    assert not draining.done()

    table.dispatcher.report(executor.keys[0], DONE)
    await draining

    assert [key for key, _ in table.results] == executor.keys
    assert table.released == []


async def test_attempts_that_exceed_the_shutdown_timeout_are_released() -> None:
    table = FakeTaskStore()
    executor = register(table)
    table.dispatcher.start()
    table.grant("a")

    await table.dispatcher.drain(0.01)

    assert table.released == executor.keys
    assert executor.stopped == executor.keys
    table.dispatcher.report(executor.keys[0], DONE)
    assert table.results == []


async def test_a_task_that_arrives_during_the_drain_is_released() -> None:
    table = FakeTaskStore()
    executor = register(table)
    row = table.add("a", attempt=1, owner="r1")
    await table.dispatcher.drain(0.01)

    table.dispatcher.run(table.task(row))
    await table.until(lambda: bool(table.released))

    assert executor.tasks == []


async def test_an_attempt_released_by_its_executor_is_taken_again(table: FakeTaskStore) -> None:
    executor = register(table)
    table.dispatcher.start()
    table.grant("a")
    table.dispatcher.report(executor.keys[0], TaskReleased("not now"))

    await executor.until(lambda: len(executor.tasks) == 2)

    assert executor.keys[1] == TaskKey("a", "work", 2)


# --- counts --------------------------------------------------------------------------------------------------


async def test_attempts_are_counted_by_how_they_ended(table: FakeTaskStore) -> None:
    executor = register(table)
    results = [
        DONE,
        TaskSuspended(),
        TaskFailed("ValueError", "no", retryable=True),
        TaskFailed("AttemptTimeout", "slow", retryable=True, timed_out=True),
        TaskReleased("gone"),
    ]
    for name in "abcdef":
        assert table.grant(name)
    table.dispatcher.stop("f", "work", executor.keys[5].attempt)
    for key, result in zip(executor.keys, [*results, DONE], strict=True):
        table.dispatcher.report(key, result)
        table.dispatcher.report(key, DONE)  # does not count

    counts = table.dispatcher.finished.of("w")
    assert counts == {"ok": 2, "failed": 1, "timed_out": 1, "released": 1, "cancelled": 1}


def ended(table: FakeTaskStore) -> dict[str, int]:
    """Return the counts of results above zero."""
    return {outcome: count for outcome, count in table.dispatcher.finished.of("w").items() if count}


async def test_attempts_released_by_a_drain_are_counted_once() -> None:
    table = FakeTaskStore()
    executor = register(table)
    for name in "abc":
        assert table.grant(name)
    table.dispatcher.stop(*executor.keys[1])
    table.dispatcher.report(executor.keys[2], DONE)
    await table.until_results(1)

    await table.dispatcher.drain(0.01)
    assert ended(table) == {"ok": 1, "released": 1}
    for key in executor.keys:
        table.dispatcher.report(key, TaskStopped())

    assert ended(table) == {"ok": 1, "released": 1, "cancelled": 1}


async def test_an_attempt_that_cannot_run_is_counted_as_released(table: FakeTaskStore) -> None:
    row = table.add("a", attempt=1, owner="r1")
    table.dispatcher.run(table.task(row))
    table.dispatcher.run(table.task(row))
    await table.dispatcher.quiesce()

    assert table.released == [TaskKey("a", "work", 1)]
    assert ended(table) == {"released": 1}


async def test_an_orphaned_attempt_is_counted_once_as_released(
    table: FakeTaskStore,
) -> None:
    table.lose_effects = 1
    table.failures = [StoreUnavailableError("away")] * 3
    table.add("a")
    executor = register(table)
    table.dispatcher.start()

    await executor.until(lambda: bool(executor.tasks))
    table.dispatcher.report(executor.keys[0], DONE)
    await table.until_results(1)

    assert table.failures == []
    assert ended(table) == {"released": 1, "ok": 1}
    assert sum(ended(table).values()) == len(table.taken), "as many as started"


async def test_a_dropped_result_is_counted_once(
    table: FakeTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_reporter, "REPORT_TRIES_MAX", 1)
    executor = register(table)
    assert table.grant("a")
    table.failures = [StoreUnavailableError("away")]
    table.dispatcher.report(executor.keys[0], DONE)
    table.dispatcher.start()

    await executor.until(lambda: len(executor.tasks) == 2)

    assert table.released == [TaskKey("a", "work", 1)]
    assert ended(table) == {"ok": 1}


async def test_results_that_are_stored_late_or_never_are_counted(
    table: FakeTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_reporter, "REPORT_BACKOFF_MS_MAX", 1)
    executor = register(table)
    table.failures = [StoreUnavailableError("away")] * 3
    assert table.grant("late")
    table.dispatcher.report(executor.keys[0], DONE)
    await table.until_results(1)
    assert (table.dispatcher.result_retries, table.dispatcher.results_dropped) == (3, 0)

    table.failures = [StoreUnavailableError("away")] * REPORT_TRIES_MAX
    assert table.grant("never")
    table.dispatcher.report(executor.keys[1], DONE)
    await table.dispatcher.quiesce()

    assert table.dispatcher.results_dropped == 1
    assert table.dispatcher.result_retries == 3 + REPORT_TRIES_MAX - 1
