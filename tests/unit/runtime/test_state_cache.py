"""The state cache: bounded in number and in size, and never more than an optimization."""

from __future__ import annotations

import sys

import pytest

from contract.runner_flows import FLOWS
from perdure_server.core import Core
from perdure_server.engine.commands import payload
from perdure_server.runtime.state_cache import PAYLOAD_BYTES_MAX, STATE_PARTS_MAX, STATES_MAX
from perdure_server.store.sqlite import SqliteStore


@pytest.mark.parametrize(
    ("max_states", "max_parts"), [(3, STATE_PARTS_MAX), (STATES_MAX, 12), (0, STATE_PARTS_MAX)]
)
async def test_states_beyond_a_bound_are_read_again(max_states: int, max_parts: int) -> None:
    core = Core(SqliteStore(None), FLOWS)
    cache = core.processor.cache
    cache.max_states, cache.max_parts = max_states, max_parts
    await core.start()
    names = [f"i{number}" for number in range(8)]
    for name in names:
        await core.operations.start_instance(workflow="chain", context=payload("{}"), instance_id=name)
    for round_ in range(5):
        for name in names:
            # A step, and one more buffered event in each round.
            await core.operations.resume(name, event="three", payload=payload(str(round_)), buffer=True)
            assert len(cache) <= max_states
            assert cache.parts <= max_parts
    for name in names:
        await core.operations.resume(name, event="skip")
        stored = await core.operations.queries.get_instance(name)
        assert stored.state.status.value == "completed"
        assert stored.payloads[stored.state.steps["third"].output.revision] == "0"  # type: ignore[union-attr]

    assert cache.parts == 0, "ended instances are not cached"
    assert len(cache) == 0
    await core.stop(0)


async def test_cached_payloads_stay_within_their_memory_bound() -> None:
    core = Core(SqliteStore(None), FLOWS)
    cache = core.processor.cache
    cache.max_payload_bytes = 20_000
    assert cache.max_payload_bytes < PAYLOAD_BYTES_MAX
    await core.start()
    # Characters of four bytes, in memory and in the message.
    context = payload('{"faces": "' + "😀" * 1_000 + '"}')
    for number in range(20):
        await core.operations.start_instance(workflow="chain", context=context, instance_id=f"i{number}")

    cached = [text for entry in cache for text in (entry.payloads or {}).values()]
    assert 0 < sum(map(sys.getsizeof, cached)) <= cache.max_payload_bytes
    for number in range(20):
        await core.operations.resume(f"i{number}", event="three", payload=payload("3"), buffer=True)
        await core.operations.resume(f"i{number}", event="skip")
        stored = await core.operations.queries.get_instance(f"i{number}")
        assert stored.state.status.value == "completed"

    assert cache.payload_bytes == 0, "ended instances are not cached"
    await core.stop(0)
