"""A record that cannot be decoded fails the calls about its instance, and nothing else."""

from __future__ import annotations

import asyncio

import apsw
import pytest

from perdure import Workflow, wait_for
from perdure.errors import PerdureError
from perdure_server.embedded import EmbeddedRunner
from perdure_server.store.protocol import COMMITTED, UnreadableRecordError
from perdure_server.store.sqlite import SqliteStore
from support.factories import a_change, a_definition, a_state


class Waits(Workflow, name="waits", version=1):
    """A wait with a timeout."""

    start = "answer"
    answer = wait_for("yes", timeout="1s", on={"yes": "end", "timeout": "end"})


def damage(path: str, instance_id: str, *, table: str) -> None:
    column = {"instances": "state", "history": "body"}[table]
    connection = apsw.Connection(path)
    connection.execute(
        f"UPDATE {table} SET {column} = json_set({column}, '$.renamed', 1) WHERE instance_id = ?",
        (instance_id,),
    )
    connection.close()


async def test_a_damaged_state_does_not_fail_the_other_loads_of_its_batch(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    damaged, sound = a_state(), a_state()
    await store.put_definition(a_definition())
    assert await store.commit([a_change(damaged), a_change(sound)]) == [COMMITTED] * 2
    await store.close()
    damage(path, damaged.instance_id, table="instances")
    await store.open()

    first, second = await asyncio.gather(
        store.load(damaged.instance_id), store.load(sound.instance_id), return_exceptions=True
    )

    problem = f"the state of instance '{damaged.instance_id}' has the unknown field 'renamed'"
    assert isinstance(first, UnreadableRecordError)
    assert str(first) == problem
    assert second == sound
    with pytest.raises(UnreadableRecordError, match="unknown field 'renamed'"):
        await store.get_instance(damaged.instance_id)
    await store.close()


async def test_a_damaged_fact_is_named_with_its_revision(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    state = a_state()
    await store.put_definition(a_definition())
    assert await store.commit([a_change(state)]) == [COMMITTED]
    await store.close()
    damage(path, state.instance_id, table="history")
    await store.open()

    with pytest.raises(UnreadableRecordError) as caught:
        await store.history(state.instance_id, after_revision=0, limit=10)

    assert caught.value.record == f"history revision 1 of instance '{state.instance_id}'"
    await store.close()


async def test_a_damaged_instance_fails_its_calls_and_no_others(path: str) -> None:
    database = f"sqlite:///{path}"
    async with EmbeddedRunner([Waits], database=database) as perdure:
        for name in ("damaged", "sound"):
            await perdure.start_instance("waits", instance_id=name)
    damage(path, "damaged", table="instances")

    async with EmbeddedRunner([Waits], database=database) as perdure:
        for call in (perdure.get_instance("damaged"), perdure.resume("damaged", "yes")):
            with pytest.raises(PerdureError, match="unknown field 'renamed'") as caught:
                await call
            assert caught.value.reason == "DATABASE_UNAVAILABLE"
        # Its timer fires as well. The timer of the other instance, due at the same time, still ends that instance.
        ended = await perdure.wait_for_end("sound")
        assert ended.state == "COMPLETED"
        with pytest.raises(PerdureError, match="unknown field"):
            await perdure.get_instance("damaged")
