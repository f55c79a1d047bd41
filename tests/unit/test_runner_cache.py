"""What the runner keeps of instances at rest: bounded in number and in size, and never more than a short cut."""

from __future__ import annotations

import pytest

from contract.runner_flows import FLOWS
from perdure_server.app import Core
from perdure_server.engine.commands import payload
from perdure_server.runtime import runner
from perdure_server.store.sqlite import SqliteStore


@pytest.mark.parametrize(("bound", "value"), [("LANES_MAX", 3), ("STATE_PARTS_MAX", 12), ("LANES_MAX", 0)])
async def test_states_beyond_the_bound_are_read_anew_and_nothing_else_changes(
    bound: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, bound, value)
    core = Core(SqliteStore(None), FLOWS)
    await core.start()
    names = [f"i{number}" for number in range(8)]
    for name in names:
        await core.runtime.start_instance(workflow="chain", context=payload("{}"), instance_id=name)
    for round_ in range(5):
        for name in names:
            # A state of a step, and one buffered event more in each round.
            await core.runtime.resume(name, event="three", payload=payload(str(round_)), buffer=True)
            assert len(core.runner._lanes) <= runner.LANES_MAX
            assert core.runner._parts <= runner.STATE_PARTS_MAX
    for name in names:
        await core.runtime.resume(name, event="skip")
        stored = await core.runtime.get_instance(name)
        assert stored.state.status.value == "completed"
        assert stored.payloads[stored.state.steps["third"].output.revision] == "0"  # type: ignore[union-attr]

    assert core.runner._parts == 0, "what has ended is not kept"
    assert len(core.runner._lanes) == 0
    await core.stop(0)
