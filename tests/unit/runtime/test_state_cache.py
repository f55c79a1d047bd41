"""What the runner keeps of instances at rest: bounded in number and in size, and never more than a short cut."""

from __future__ import annotations

import sys

import pytest

from contract.runner_flows import FLOWS
from perdure_server.app import Core
from perdure_server.engine.commands import payload
from perdure_server.runtime import command_processor
from perdure_server.store.sqlite import SqliteStore


@pytest.mark.parametrize(("bound", "value"), [("LANES_MAX", 3), ("STATE_PARTS_MAX", 12), ("LANES_MAX", 0)])
async def test_states_beyond_the_bound_are_read_anew_and_nothing_else_changes(
    bound: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_processor, bound, value)
    core = Core(SqliteStore(None), FLOWS)
    await core.start()
    names = [f"i{number}" for number in range(8)]
    for name in names:
        await core.runtime.start_instance(workflow="chain", context=payload("{}"), instance_id=name)
    for round_ in range(5):
        for name in names:
            # A state of a step, and one buffered event more in each round.
            await core.runtime.resume(name, event="three", payload=payload(str(round_)), buffer=True)
            assert len(core.runner._lanes) <= command_processor.LANES_MAX
            assert core.runner._parts <= command_processor.STATE_PARTS_MAX
    for name in names:
        await core.runtime.resume(name, event="skip")
        stored = await core.runtime.get_instance(name)
        assert stored.state.status.value == "completed"
        assert stored.payloads[stored.state.steps["third"].output.revision] == "0"  # type: ignore[union-attr]

    assert core.runner._parts == 0, "what has ended is not kept"
    assert len(core.runner._lanes) == 0
    await core.stop(0)


async def test_payloads_are_kept_for_tasks_to_come_within_a_bound_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_processor, "BODIES_BYTES_MAX", 20_000)
    core = Core(SqliteStore(None), FLOWS)
    await core.start()
    # Characters that take four bytes each, in memory as on the wire.
    context = payload('{"faces": "' + "😀" * 1_000 + '"}')
    for number in range(20):
        await core.runtime.start_instance(workflow="chain", context=context, instance_id=f"i{number}")

    kept = [text for lane in core.runner._lanes.values() for text in (lane.bodies or {}).values()]
    assert 0 < sum(map(sys.getsizeof, kept)) <= command_processor.BODIES_BYTES_MAX
    for number in range(20):
        await core.runtime.resume(f"i{number}", event="three", payload=payload("3"), buffer=True)
        await core.runtime.resume(f"i{number}", event="skip")
        assert (await core.runtime.get_instance(f"i{number}")).state.status.value == "completed"

    assert core.runner._bodies_bytes == 0, "what has ended is not kept"
    await core.stop(0)
