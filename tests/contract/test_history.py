"""History: entries come back as they were, in order, by pages."""

from __future__ import annotations

import pytest

from perdure.model.graph import StepKind
from perdure_server.engine import facts as f
from perdure_server.engine.facts import Fact
from perdure_server.store.protocol import Store
from support.factories import a_change, a_fact, a_request, a_state, info

EVERY_FACT: tuple[Fact, ...] = (
    f.InstanceStarted(
        workflow="order",
        version=1,
        definition_digest="digest-1",
        start_step="validate",
        input=info(),
        business_key="b-1",
        labels={"region": "eu"},
        start_delay_ms=5,
    ),
    f.StepStarted(step_ref="approval", kind=StepKind.WAIT, events=("approved", "rejected")),
    f.AttemptStarted(step_ref="charge", attempt=1, owner="replica-a"),
    f.AttemptFailed(
        step_ref="charge",
        attempt=1,
        failure=f.Failure("Timeout", "über\u2028 \"'\\ \x00\U0001f600", 1),
        retrying=True,
    ),
    f.AttemptReleased(step_ref="charge", attempt=2, reason="drain"),
    f.StepSuspended(step_ref="reserve", attempt=1, events=("reserved",)),
    f.StepFinished(step_ref="charge", event="charged", targets=("approval",), output=info('{"a":1}')),
    f.StepFinished(step_ref="charge", event="error", targets=("end",), failure=f.Failure("E", "m", 3)),
    f.StepSkipped(step_ref="approval"),
    f.EventBuffered(event="approved", step_ref="approval", payload=info("[]")),
    f.TimerArmed(
        kind=f.TimerKind.TIMEOUT, step_ref="approval", due_at=1 << 53, delay_ms=9, client_requested=True
    ),
    f.TimerFired(timer=11, kind=f.TimerKind.RETRY, step_ref="approval", used=False, forced=True),
    f.TimerCancelled(timer=11, step_ref="approval"),
    f.InstanceCompleted(unconsumed=(f.Unconsumed(10, "approved"),)),
    f.InstanceFailed(step_ref="charge", failure=f.Failure("E", "m", 3), interrupted=("reserve",)),
    f.InstanceCancelled(reason="by hand", unconsumed=(f.Unconsumed(10, "approved"),)),
    f.InstanceRetried(),
)


def test_every_kind_of_fact_is_tried() -> None:
    assert {type(fact) for fact in EVERY_FACT} == set(f.KIND_OF)


@pytest.mark.parametrize("fact", EVERY_FACT, ids=lambda fact: type(fact).__name__)
async def test_a_fact_comes_back_as_it_was(store: Store, fact: Fact) -> None:
    change = a_change(a_state(), expected=0, facts=(fact,))
    await store.commit([change])
    assert list(await store.history(change.instance_id, after_revision=0, limit=5)) == list(change.entries)


async def test_a_history_is_read_by_pages_in_order(store: Store) -> None:
    change = a_change(a_state(revision=25), expected=0, facts=tuple(a_fact(f"step_{n}") for n in range(25)))
    other = a_change(a_state())
    await store.commit([other, change])
    pages = [
        [entry.revision for entry in await store.history(change.instance_id, after_revision=after, limit=10)]
        for after in (0, 10, 20, 25, 99)
    ]
    assert pages == [list(range(1, 11)), list(range(11, 21)), list(range(21, 26)), [], []]


async def test_an_entry_names_the_request_that_caused_it(store: Store) -> None:
    change = a_change(a_state(), request=a_request("request-7"))
    await store.commit([change])
    (entry,) = await store.history(change.instance_id, after_revision=0, limit=5)
    assert entry.request_id == "request-7"
