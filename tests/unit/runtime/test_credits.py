"""The credit ledger: slots, reservations and takes, without an event loop."""

from __future__ import annotations

import pytest

from perdure_server.engine.commands import NO_GRANT
from perdure_server.runtime.dispatch.credits import GRANT_SLOTS_MAX, CreditLedger
from perdure_server.runtime.dispatch.protocol import TaskKey
from perdure_server.runtime.ports import TaskToRun


class IdleExecutor:
    """An executor that is never given a task: the ledger only compares its identity."""

    def run(self, task: TaskToRun) -> None:
        raise AssertionError("the ledger does not run tasks")

    def stop(self, key: TaskKey) -> None:
        raise AssertionError("the ledger does not stop tasks")


def ledger(*credits_of_executors: int) -> CreditLedger:
    made = CreditLedger("r1")
    for max_credits in credits_of_executors:
        made.register(IdleExecutor(), {("w", 1): frozenset({"work"})}, max_credits)
    return made


def test_a_reservation_reduces_the_room_of_every_executor() -> None:
    made = ledger(3, 5)

    grant = made.reserve("w", 1)

    assert (grant.owner, grant.slots) == ("r1", 5)
    assert [made.room(entry) for entry in made.executors] == [-2, 0]
    assert made.reserve("w", 1) is NO_GRANT


def test_released_slots_can_be_reserved_again() -> None:
    made = ledger(4)
    grant = made.reserve("w", 1)

    made.release(3)

    assert grant.slots == 4
    assert made.reserve("w", 1).slots == 3


def test_a_take_counts_for_its_executor_and_not_for_the_others() -> None:
    made = ledger(2, 2)
    first, second = made.executors
    key = TaskKey("i", "work", 4)

    grant = made.start_take(key, first)

    assert (grant.slots, grant.step_refs) == (1, {"work"})
    assert (made.room(first), made.room(second)) == (1, 2)
    assert made.executor_of_take(key._replace(attempt=5)) is first
    assert made.executor_of_take(key) is None, "only the next attempt was taken"
    made.end_take(key)
    made.release(1)
    assert (made.room(first), made.takes) == (2, 0)


def test_a_take_of_a_removed_executor_has_no_executor() -> None:
    made = ledger(2, 2)
    first = made.executors[0]
    made.start_take(TaskKey("i", "work", 0), first)

    assert made.unregister(first.executor) == [first]

    assert made.executor_of_take(TaskKey("i", "work", 1)) is None


def test_a_paused_ledger_grants_nothing() -> None:
    made = ledger(4)
    made.paused = True

    assert made.reserve("w", 1) is NO_GRANT


def test_a_new_replica_id_owns_later_grants() -> None:
    made = ledger(20)
    assert made.reserve("w", 1).owner == "r1"

    made.replica_changed("r2")

    grant = made.reserve("w", 1)
    assert (grant.owner, grant.slots) == ("r2", GRANT_SLOTS_MAX)
    assert made.start_take(TaskKey("i", "work", 0), made.executors[0]).owner == "r2"


@pytest.mark.parametrize(("backlog", "used", "wakes"), [(True, 1, True), (True, 2, False), (False, 0, False)])
def test_only_a_backlog_with_room_is_worth_a_sweep(backlog: bool, used: int, wakes: bool) -> None:
    made = ledger(2)
    (entry,) = made.executors
    entry.backlog, entry.used = backlog, used

    assert made.has_room_for_backlog is wakes


def test_the_executor_with_the_most_free_credits_is_chosen() -> None:
    made = ledger(2, 5)
    first, second = made.executors
    assert made.choose("w", 1, "work") is second

    second.used = 4

    assert made.choose("w", 1, "work") is first
    assert made.choose("w", 1, "other") is None
