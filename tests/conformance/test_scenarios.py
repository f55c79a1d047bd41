"""All clients return the results in the table, and the same results. The table covers every operation."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.drivers import TOOLCHAINS, require
from conformance.scenario_runner import Played, differences, play
from conformance.scenario_table import BAD_DAYS, OPS, RESERVED, Names, Scenario, same, scenarios
from conformance.world import World
from perdure.v1 import errors_pb2
from perdure_server.api.error_table import RESERVED_REASONS

REFERENCE = "python"


def played(language: str, folder: Path) -> dict[str, Played]:
    """Play the whole table."""
    with World(language, folder) as world:
        answers = {scenario.name: play(scenario, world) for scenario in scenarios()}
        codes = world.close_drivers()
    assert not any(codes.values()), f"drivers ended with {codes}"
    return answers


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """Results of the Python client."""
    return played(REFERENCE, tmp_path_factory.mktemp(REFERENCE))


@pytest.mark.e2e
@pytest.mark.timeout(400)  # a driver may have to be built first
@pytest.mark.parametrize("language", TOOLCHAINS)
def test_a_client_gives_the_answers_of_the_table(
    language: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    require(language)
    reference: dict[str, Played] = request.getfixturevalue("reference")
    answers = reference if language == REFERENCE else played(language, tmp_path)

    found = [f"{name}: {line}" for name, one in answers.items() for line in one.issues]
    if not found:
        found = [
            f"{name}: other than {REFERENCE}: {line}"
            for name, one in answers.items()
            for line in differences(reference[name], one)
        ]

    assert not found, f"the {language} client differs:\n" + "\n".join(found)


# --- what the table covers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> list[Scenario]:
    return scenarios()


def reasons_in(table: list[Scenario], *worlds: str) -> set[str]:
    return {
        step.error["reason"]
        for scenario in table
        if scenario.world in worlds
        for step in scenario.calls
        if step.error is not None and "reason" in step.error
    }


def test_every_operation_is_in_the_table(table: list[Scenario]) -> None:
    assert {step.what for scenario in table for step in scenario.calls} == OPS


def test_every_reason_is_met_at_a_real_server_or_it_is_said_why_not(table: list[Scenario]) -> None:
    published = {
        name.removeprefix("ERROR_REASON_")
        for name in errors_pb2.ErrorReason.keys()  # noqa: SIM118
    } - {"UNSPECIFIED"}

    met = reasons_in(table, "plain", "tls") - {""}

    assert met == published - set(RESERVED) - set(BAD_DAYS)


def test_the_reasons_that_a_real_server_does_not_give_are_sent_to_every_client(table: list[Scenario]) -> None:
    assert {*RESERVED, *BAD_DAYS} <= reasons_in(table, "front")


def test_the_reserved_reasons_are_those_that_the_server_reserves() -> None:
    # LEASE_LOST has its row in the server's error table, for the workers to come.
    assert set(RESERVED) - {"LEASE_LOST"} == set(RESERVED_REASONS)


# --- the comparison itself ---------------------------------------------------------------------------------------


def test_a_name_is_captured_once_and_then_compared() -> None:
    names = Names()

    assert names.differences({"id": "$id"}, {"id": "i-1", "more": 1}) == []
    assert names.differences({"reference": "${id}.7"}, {"reference": "i-1.7"}) == []
    assert names.differences(["$id"], ["i-2"]) == ["[0]: is 'i-2', not 'i-1'"]
    assert names.filled({"a": "$id", "b": "${id}.1", "c": "$$id"}) == {"a": "i-1", "b": "i-1.1", "c": "$id"}


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": "1"}, {"a": 1}),
        ({"a": None}, {"a": {}}),
        ([1, 2], [1]),
        ([1, 2], [2, 1]),
        ([], {}),
    ],
)
def test_differences_are_reported(expected: object, got: object) -> None:
    assert Names().differences(expected, got)


def test_two_clients_answers_are_compared_to_the_letter() -> None:
    assert same({"a": ["$x", "$_"]}, {"a": ["$x", "$_"]}) == []
    assert same({"a": "$x"}, {"a": "other"})
    assert same({"a": "$_"}, {"a": "other"})
