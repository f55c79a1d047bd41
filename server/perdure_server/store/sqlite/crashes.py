"""Unclean stops: the attempts that were lost with them, and the step definitions that ran at two of them in a row.

Owns: the tables of crash loops. Must not: decide about an attempt or a suspect.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import apsw
import orjson

from perdure_server.store.protocol import CrashReport, LostAttempt, StepKey, TaskRow
from perdure_server.store.sqlite.queries import fetch, one

_ADD_LEFT_ATTEMPTS: Final = one("add_left_attempts")
_CLEAR_SUSPECT: Final = one("clear_suspect")
_CLEAR_SUSPECTS: Final = one("clear_suspects")
_COUNT_CRASHED_STEP: Final = one("count_crashed_step")
_END_REPLICAS: Final = one("end_replicas")
_EXCUSE_LEFT_ATTEMPT: Final = one("excuse_left_attempt")
_FORGET_CRASHED_STEP: Final = one("forget_crashed_step")
_FORGET_CRASHED_STEPS: Final = one("forget_crashed_steps")
_FORGET_LEFT_ATTEMPTS: Final = one("forget_left_attempts")
_FORGET_SOLO_ATTEMPTS: Final = one("forget_solo_attempts")
_LIST_CRASHED_STEPS: Final = one("list_crashed_steps")
_LOST_ATTEMPTS: Final = one("lost_attempts")
_SURVIVING_ATTEMPTS: Final = one("surviving_attempts")
_UNCLEAN_STOP: Final = one("unclean_stop")
_WRITE_SOLO_ATTEMPT: Final = one("write_solo_attempt")


def take_over(connection: apsw.Connection) -> None:
    """Record what the previous process left behind, and end its lease. Call it once per open, in a transaction.

    A process that is killed before it registers leaves no replica row, so the next one finds the same record.
    """
    unclean = fetch(connection, _UNCLEAN_STOP, {})[0][0]
    connection.execute(_FORGET_LEFT_ATTEMPTS)
    left = fetch(connection, _ADD_LEFT_ATTEMPTS, {"unclean": unclean})
    if unclean and left:
        _count_stop(connection, {(instance_id, step_ref) for instance_id, step_ref in left})
    connection.execute(_FORGET_SOLO_ATTEMPTS)
    connection.execute(_END_REPLICAS)


def _count_stop(connection: apsw.Connection, left: set[tuple[str, str]]) -> None:
    lost = [found for found in _lost(connection) if (found.task.instance_id, found.task.step_ref) in left]
    ran: dict[StepKey, bool] = {}
    for found in lost:
        ran[_key(found)] = ran.get(_key(found), False) or found.alone
    culprits = set()
    for workflow, version, step_ref, _, suspect, alone in _crashed_steps(connection):
        key = StepKey(workflow, version, step_ref)
        if key in ran:
            if alone and not ran[key]:
                culprits.add(key)
        # A suspect that did not run waited for its turn while another one ran alone. A step that crashed alone can be
        # backing off.
        elif not suspect and not alone:
            connection.execute(_FORGET_CRASHED_STEP, key._asdict())
    for found in lost if culprits else ():
        # One crash alone excuses the others once: the culprit's row says next that it ran with others.
        if _key(found) not in culprits:
            task = found.task
            connection.execute(
                _EXCUSE_LEFT_ATTEMPT, {"instance_id": task.instance_id, "step_ref": task.step_ref}
            )
    for key, alone in ran.items():
        connection.execute(_COUNT_CRASHED_STEP, key._asdict() | {"alone": alone})


def report(connection: apsw.Connection) -> CrashReport:
    """Return the lost attempts and the suspects."""
    steps = _crashed_steps(connection)
    survived = orjson.loads(fetch(connection, _SURVIVING_ATTEMPTS, {})[0][0])
    return CrashReport(
        lost=tuple(_lost(connection)),
        suspects=frozenset(StepKey(*row[:3]) for row in steps if row[4]),
        crashed_alone=frozenset(StepKey(*row[:3]) for row in steps if row[5]),
        survived=frozenset((instance_id, step_ref) for instance_id, step_ref in survived),
    )


def mark_solo(
    connection: apsw.Connection, instance_id: str, step_ref: str, attempt: int, *, alone: bool
) -> None:
    """Record that an attempt runs alone, or that it survived that."""
    connection.execute(
        _WRITE_SOLO_ATTEMPT,
        {"instance_id": instance_id, "step_ref": step_ref, "attempt": attempt, "alone": alone},
    )


def clear_suspects(connection: apsw.Connection, steps: Collection[StepKey] | None) -> None:
    """Clear some suspects, or all."""
    if steps is None:
        connection.execute(_CLEAR_SUSPECTS)
    else:
        for step in steps:
            connection.execute(_CLEAR_SUSPECT, step._asdict())


def stop_cleanly(connection: apsw.Connection) -> None:
    """End a row of unclean stops."""
    connection.execute(_FORGET_CRASHED_STEPS)


def _lost(connection: apsw.Connection) -> list[LostAttempt]:
    rows = orjson.loads(fetch(connection, _LOST_ATTEMPTS, {})[0][0])
    return [LostAttempt(TaskRow(*row[1:7]), alone=bool(row[7]), excused=bool(row[8])) for row in sorted(rows)]


def _key(lost: LostAttempt) -> StepKey:
    return StepKey(lost.task.workflow, lost.task.version, lost.task.step_ref)


def _crashed_steps(connection: apsw.Connection) -> list[list[Any]]:
    rows: list[list[Any]] = orjson.loads(fetch(connection, _LIST_CRASHED_STEPS, {})[0][0])
    return rows
