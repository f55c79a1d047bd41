"""The engine over random graphs and random commands: it never raises, and the judge never objects.

What the judge holds the engine to stands in ``simulation.history_oracle``, ``simulation.reference_model``,
``simulation.expected_results``: fold
equals state, gapless revisions, each step at most once, right rejections, timers, inbox, effects, grants, sizes.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import commands
from perdure_server.engine import decide as engine
from perdure_server.engine.commands import Grant
from perdure_server.engine.decide import ALLOWED_IN
from perdure_server.engine.rejections import Rejection
from perdure_server.engine.state import InstanceState
from simulation.command_generator import Chance, Drawn, Seeded, random_command, random_grant
from simulation.instance import Instance
from support.strategies import graphs

PAUSES_MS = (0, 1, 50, 5_000, 100_000_000)


def harass(instance: Instance, chance: Chance, *, commands_max: int) -> None:
    """Send an instance any commands, late ones and absurd ones among them."""
    for _ in range(chance.whole(0, commands_max)):
        instance.now += chance.pick(PAUSES_MS)
        command = random_command(chance, instance.graph, instance.state, instance.now)
        instance.attempt(command, random_grant(chance, instance.graph))


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_any_commands_on_any_graph_keep_every_rule(graph: WorkflowGraph, data: st.DataObject) -> None:
    chance = Drawn(data)
    instance = Instance(
        graph, grant=random_grant(chance, graph), start_delay_ms=chance.pick([0, 0, 5]), request_id="r0"
    )

    harass(instance, chance, commands_max=25)


@settings(max_examples=200, deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_whatever_happened_an_instance_can_be_driven_to_its_end(graph: WorkflowGraph, seed: int) -> None:
    chance = Seeded(Random(seed))
    instance = Instance(graph, start_delay_ms=chance.pick([0, 0, 5]))
    harass(instance, chance, commands_max=60)

    instance.wind_up()

    assert instance.state.is_final
    assert not instance.state.timers
    assert not instance.active


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_what_has_ended_takes_no_command_of_any_kind(graph: WorkflowGraph, seed: int) -> None:
    chance = Seeded(Random(seed))
    instance = Instance(graph)
    if chance.whole(0, 1):
        harass(instance, chance, commands_max=10)
        if not instance.state.is_final:
            instance.do(instance.cancel())
    else:
        instance.wind_up()
    ended = instance.state

    for _ in range(60):
        command = random_command(chance, graph, ended, instance.now)
        assert isinstance(instance.attempt(command, random_grant(chance, graph)), Rejection)

    assert instance.state is ended


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_the_same_command_on_the_same_state_gives_the_same_decision(graph: WorkflowGraph, seed: int) -> None:
    chance = Seeded(Random(seed))
    instance = Instance(graph)
    harass(instance, chance, commands_max=20)
    state, now = instance.state, instance.now
    for _ in range(10):
        command, grant = random_command(chance, graph, state, now), random_grant(chance, graph)

        first, again = (engine.decide(graph, state, command, grant) for _ in range(2))

        assert first == again


@settings(max_examples=50, deadline=None)
@given(graphs(), st.sampled_from([1, 3, 100]))
def test_a_generous_executor_gets_every_task_without_asking(graph: WorkflowGraph, slots: int) -> None:
    grant = Grant("e1", slots, frozenset(graph.steps))

    instance = Instance(graph, grant=grant)

    running = [step for step in instance.state.steps.values() if hasattr(step, "owner")]
    assert len(running) == instance.last.slots_used <= slots


def test_the_table_of_what_may_happen_names_every_command() -> None:
    assert set(ALLOWED_IN) == set(commands.Command.__args__)  # type: ignore[attr-defined]
    assert all(
        not states & {InstanceState.COMPLETED, InstanceState.CANCELLED} for states in ALLOWED_IN.values()
    )
