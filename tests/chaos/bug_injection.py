"""Bugs to inject into a running server. Each bug breaks one promise, to show that the checker finds it.

A bug is selected by name before the server is built. It replaces something inside `perdure_server`, which has no code
for bugs. `test_injected_bugs` has the violations that the checker should find.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Final

from perdure_server.engine import commands, decide, decision_builder, evolve, facts, reachability
from perdure_server.engine.rejections import EventNotAwaited
from perdure_server.engine.state import InstanceState, Running
from perdure_server.executors import in_process
from perdure_server.executors.in_process import InProcessExecutor
from perdure_server.runtime import command_processor, operations
from perdure_server.runtime.dispatch.dispatcher import Dispatcher
from perdure_server.runtime.dispatch.protocol import TaskFinished
from perdure_server.runtime.dispatch.result_reporter import ResultReporter
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.queries import Queries
from perdure_server.runtime.results import RevisionResult
from perdure_server.runtime.watch import WatchEntry, WatchHub
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.store.protocol import COMMITTED, Change
from perdure_server.store.sqlite import SqliteStore
from perdure_server.timers.window import TimerWindow

PLANT_VARIABLE: Final = "PERDURE_CHAOS_PLANT"
"""Names the bug for the server's process."""


def every(nth: int) -> Callable[[], bool]:
    """Return a function that says yes every nth time."""
    count = itertools.count(1)
    return lambda: next(count) % nth == 0


def switch_on(name: str) -> None:
    """Plant a bug. Raises ``KeyError`` for a name that is none."""
    PLANTS[name]()


# --- commits -------------------------------------------------------------------------------------------------


def drop_a_commit() -> None:
    """Answer OK for some changes that a client asked for, and store nothing."""
    real, now = GroupCommitter.submit, every(9)

    def submit(self: GroupCommitter, change: Change) -> Any:
        if change.request is None or not now():
            return real(self, change)
        done = asyncio.get_running_loop().create_future()
        done.set_result(COMMITTED)
        return done

    _set(GroupCommitter, "submit", submit)


def answer_before_the_commit() -> None:
    """Answer at once and store a little later: a crash in between loses what was promised."""
    real = GroupCommitter.submit

    def submit(self: GroupCommitter, change: Change) -> Any:
        loop = asyncio.get_running_loop()
        loop.call_later(0.15, lambda: _shrug(real(self, change)))
        done = loop.create_future()
        done.set_result(COMMITTED)
        return done

    _set(GroupCommitter, "submit", submit)


def _shrug(future: asyncio.Future[Any]) -> None:
    future.add_done_callback(lambda done: done.exception())


def _change(change_it: Callable[[Change], Change]) -> None:
    real = command_processor.change_of

    def change_of(*arguments: Any, **keywords: Any) -> Change:
        return change_it(real(*arguments, **keywords))

    _set(command_processor, "change_of", change_of)


def leave_a_gap() -> None:
    """Leave an entry out of some histories."""
    now = every(10)
    _change(
        lambda change: (
            replace(change, entries=(change.entries[0], *change.entries[2:]))
            if len(change.entries) > 2 and now()
            else change
        )
    )


def store_another_state() -> None:
    """Store a state that the history does not add up to."""
    now = every(6)
    _change(
        lambda change: (
            replace(change, state=replace(change.state, payload_bytes=change.state.payload_bytes + 1))
            if now()
            else change
        )
    )


def leave_timer_rows() -> None:
    """Leave the rows of timers that are gone."""
    _change(lambda change: replace(change, timers_removed=()))


def leave_task_rows() -> None:
    """Leave the rows of tasks that are gone."""
    _change(lambda change: replace(change, tasks_removed=()))


def store_another_payload() -> None:
    """Store a payload that differs from the one in the fact."""
    now = every(8)
    _change(
        lambda change: (
            replace(change, payloads=dict.fromkeys(change.payloads, '"another"'))
            if change.payloads and now()
            else change
        )
    )


# --- requests ------------------------------------------------------------------------------------------------


def forget_request_ids() -> None:
    """Take every repeat for a new request."""

    async def find_request(self: SqliteStore, key: object) -> None:
        return None

    _set(command_processor.CommandProcessor, "_record", lambda self, command, decision: None)
    _set(SqliteStore, "find_request", find_request)


def reject_applied_events() -> None:
    """Reject some events that took effect."""
    real, now = Operations.resume, every(7)

    async def resume(self: Operations, instance_id: str, **keywords: Any) -> Any:
        answer = await real(self, instance_id, **keywords)
        if now():
            raise EventNotAwaited(instance_id, keywords["event"], ())
        return answer

    _set(Operations, "resume", resume)


def answer_another_revision() -> None:
    """Answer cancellations and retries with the revision after the one that they caused."""
    _set(
        operations,
        "_revised",
        lambda instance_id, decision: RevisionResult(decision.cause.revision + 1),
    )


# --- timers --------------------------------------------------------------------------------------------------


def _rule(command: type, rule: Callable[[Any, Any], Any]) -> None:
    rules: dict[type, Any] = _open(decide._RULES)
    rules[command] = rule


def fire_a_timer_twice() -> None:
    """Let each timer that is not a retry act twice."""
    real = decide._RULES[commands.FireTimer]

    def fire(on: Any, command: commands.FireTimer) -> Any:
        timer = on.state.timers.get(command.timer)
        rejection = real(on, command)
        if rejection is None and on.state.is_live and timer.kind is not facts.TimerKind.RETRY:
            on.add(
                facts.TimerFired(timer=timer.revision, kind=timer.kind, step_ref=timer.step_ref, used=False)
            )
        return rejection

    _rule(commands.FireTimer, fire)


def fire_timers_early() -> None:
    """Fire 15 ms before the time, and let the engine believe that it is time."""
    real_rule = decide._RULES[commands.FireTimer]
    real_schedule = TimerWindow._schedule

    def fire(on: Any, command: commands.FireTimer) -> Any:
        timer = on.state.timers.get(command.timer)
        at = max(command.at, timer.due_at) if timer else command.at
        return real_rule(on, replace(command, at=at))

    def schedule(self: TimerWindow, held: Any) -> None:
        held.at -= 15
        real_schedule(self, held)

    _rule(commands.FireTimer, fire)
    _set(TimerWindow, "_schedule", schedule)


def lose_timers_at_restart() -> None:
    """Know only the timers that were armed in this process."""

    async def claim_timers(self: SqliteStore, *arguments: object, **keywords: object) -> list[object]:
        return []

    _set(SqliteStore, "claim_timers", claim_timers)


def fire_a_cancelled_timer() -> None:
    """Answer CancelTimer and keep the timer."""
    _evolve(facts.TimerCancelled, lambda state, entry, fact: {})


# --- events --------------------------------------------------------------------------------------------------


def lose_a_buffered_event() -> None:
    """Pass over some events that a step should take from the inbox."""
    real, now = decision_builder._first_accepted, every(2)
    _set(
        decision_builder,
        "_first_accepted",
        lambda inbox, step_ref, events: None if now() else real(inbox, step_ref, events),
    )


def take_the_newest_event_first() -> None:
    """Serve the inbox from its end."""
    real = decision_builder._first_accepted
    _set(
        decision_builder,
        "_first_accepted",
        lambda inbox, step_ref, events: real(inbox[::-1], step_ref, events),
    )


def consume_an_event_twice() -> None:
    """Leave events that were taken in the inbox."""
    real = evolve._APPLY[facts.StepFinished]

    def finished(state: Any, entry: Any, fact: Any) -> Any:
        changes = real(state, entry, fact)
        changes.pop("inbox", None)
        return changes

    _evolve(facts.StepFinished, finished)


# --- the end -------------------------------------------------------------------------------------------------


def continue_after_cancel() -> None:
    """Mark an instance as cancelled but let its steps continue."""
    _evolve(
        facts.InstanceCancelled,
        lambda state, entry, fact: {"status": InstanceState.CANCELLED, "ended_at": entry.at},
    )
    allowed: dict[type, Any] = _open(decide.ALLOWED_IN)
    for command in (commands.FireTimer, commands.FinishTask, commands.Resume):
        allowed[command] = allowed[command] | {InstanceState.CANCELLED}


def _evolve(fact: type, apply: Callable[[Any, Any, Any], Any]) -> None:
    table: dict[type, Any] = _open(evolve._APPLY)
    table[fact] = apply


def start_joins_at_once() -> None:
    """Start every step at its first arrival."""

    def ripe_joins(graph: Any, state: Any) -> reachability.Joins:
        return reachability.Joins((), tuple(state.arrivals))

    _set(decision_builder, "ripe_joins", ripe_joins)


# --- attempts ------------------------------------------------------------------------------------------------


def count_late_results() -> None:
    """Skip the fence: take what an attempt returns after its time is up for the result of the current one."""
    real = InProcessExecutor._on_result

    def on_result(self: Any, key: Any, result: Any) -> None:
        if key not in self._attempts and isinstance(result, TaskFinished):
            command = commands.FinishTask(
                at=self._dispatcher._store.now_ms(),
                step_ref=key.step_ref,
                attempt=key.attempt,
                event=result.event,
                output=result.output,
            )
            _shrug(self._dispatcher._submit(key.instance_id, command))
        real(self, key, result)

    real_stale = decide._stale

    def stale(state: Any, step_ref: str, attempt: int) -> Any:
        if isinstance(state.steps.get(step_ref), Running):
            return None
        return real_stale(state, step_ref, attempt)

    _set(InProcessExecutor, "_on_result", on_result)
    _set(decide, "_stale", stale)


def run_an_attempt_twice() -> None:
    """Call the code of some attempts twice."""
    real, now = in_process.bind, every(7)

    def twice(code: Any) -> Any:
        @wraps(code)
        async def run(ctx: Any) -> Any:
            if now():
                await code(ctx)
            return await code(ctx)

        return run

    def bind(workflows: Any) -> Any:
        code, lifespans = real(workflows)
        return {
            key: twice(step) if in_process._is_coroutine_function(step) else step
            for key, step in code.items()
        }, lifespans

    _set(in_process, "bind", bind)


def run_a_finished_step_again() -> None:
    """Run some steps once more after their result was stored."""
    real, run, now = ResultReporter._on_response, Dispatcher.run, every(5)
    dispatchers: list[Dispatcher] = []

    def remember(self: Dispatcher, task: Any) -> None:
        dispatchers[:] = [self]
        run(self, task)

    def on_response(self: Any, key: Any, in_flight: Any, error: Any) -> None:
        real(self, key, in_flight, error)
        if error is None and isinstance(in_flight.result, TaskFinished) and now():
            dispatchers[0].run(replace(in_flight.task, attempt=key.attempt + 1))

    _set(Dispatcher, "run", remember)
    _set(ResultReporter, "_on_response", on_response)


def give_steps_the_input_of_others() -> None:
    """Give some steps the outputs that the step before them was given."""
    real, now = Dispatcher.run, every(5)
    last: list[Mapping[str, str]] = [{}]

    def run(self: Any, task: Any) -> None:
        steps = last[0] if now() else task.steps
        last[0] = task.steps
        real(self, replace(task, steps=steps))

    _set(Dispatcher, "run", run)


def lose_tasks_at_restart() -> None:
    """Know only the tasks that became ready in this process."""

    async def claimable_tasks(self: SqliteStore, **keywords: object) -> list[object]:
        return []

    _set(SqliteStore, "claimable_tasks", claimable_tasks)


# --- reads ---------------------------------------------------------------------------------------------------


def read_from_a_stale_cache() -> None:
    """Show instances as they were one to three reads ago."""
    real = SqliteStore.get_instance
    cache: dict[str, tuple[int, Any]] = {}

    async def get_instance(self: SqliteStore, instance_id: str) -> Any:
        reads_left, stored = cache.get(instance_id, (0, None))
        if stored is None or not reads_left:
            stored, reads_left = await real(self, instance_id), 3
        cache[instance_id] = (reads_left - 1, stored)
        return stored

    _set(SqliteStore, "get_instance", get_instance)


def hide_the_newest_instance() -> None:
    """Leave the newest line out of filtered lists."""
    real = SqliteStore.list_instances

    async def list_instances(self: SqliteStore, where: Any, **keywords: Any) -> Any:
        page = await real(self, where, **keywords)
        hides = where.labels and keywords.get("after") is None
        return replace(page, instances=page.instances[1:]) if hides else page

    _set(SqliteStore, "list_instances", list_instances)


def raise_unmapped_errors() -> None:
    """Let a handler raise an error that the error table does not have."""
    real, now = Queries.get_instance, every(10)

    async def get_instance(self: Queries, instance_id: str) -> Any:
        if now():
            raise ValueError("on purpose")
        return await real(self, instance_id)

    _set(Queries, "get_instance", get_instance)


# --- watches -------------------------------------------------------------------------------------------------


def _watch(pass_on: Callable[[AsyncIterator[Any]], AsyncIterator[Any]]) -> None:
    real = WatchHub.watch
    _set(WatchHub, "watch", lambda self, *arguments: pass_on(real(self, *arguments)))


def repeat_in_a_watch() -> None:
    """Give some entries twice."""
    now = every(7)

    async def pass_on(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for event in events:
            yield event
            if isinstance(event, WatchEntry) and now():
                yield event

    _watch(pass_on)


def leave_out_of_a_watch() -> None:
    """Leave some entries out."""
    now = every(7)

    async def pass_on(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for event in events:
            if not isinstance(event, WatchEntry) or not now():
                yield event

    _watch(pass_on)


def reorder_a_watch() -> None:
    """Give each entry that follows another at once before that one."""

    async def pass_on(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        held: Any = None
        async for event in events:
            if held is None and isinstance(event, WatchEntry) and event.entry.revision % 4 == 1:
                held = event
                continue
            yield event
            if held is not None:
                yield held
                held = None

    _watch(pass_on)


def stop_telling_watchers() -> None:
    """Forget to tell watchers of some commits."""
    real, now = WatchHub.publish, every(2)

    def publish(self: WatchHub, instance_id: str, entries: Any) -> None:
        if now():
            real(self, instance_id, entries)

    _set(WatchHub, "publish", publish)


# --- the planting --------------------------------------------------------------------------------------------


def _set(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} any more: hint the plant"
    setattr(owner, name, value)


def _open(table: Mapping[Any, Any]) -> dict[Any, Any]:
    assert isinstance(table, dict), "the table cannot be changed any more: hint the plant"
    return table


PLANTS: Final[Mapping[str, Callable[[], None]]] = {
    plant.__name__: plant
    for plant in (
        drop_a_commit,
        answer_before_the_commit,
        leave_a_gap,
        store_another_state,
        leave_timer_rows,
        leave_task_rows,
        store_another_payload,
        forget_request_ids,
        reject_applied_events,
        answer_another_revision,
        fire_a_timer_twice,
        fire_timers_early,
        lose_timers_at_restart,
        fire_a_cancelled_timer,
        lose_a_buffered_event,
        take_the_newest_event_first,
        consume_an_event_twice,
        continue_after_cancel,
        start_joins_at_once,
        count_late_results,
        run_an_attempt_twice,
        run_a_finished_step_again,
        give_steps_the_input_of_others,
        lose_tasks_at_restart,
        read_from_a_stale_cache,
        hide_the_newest_instance,
        raise_unmapped_errors,
        repeat_in_a_watch,
        leave_out_of_a_watch,
        reorder_a_watch,
        stop_telling_watchers,
    )
}
