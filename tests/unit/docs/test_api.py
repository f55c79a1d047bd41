"""docs/api.md is complete: services, RPCs, states, and every reason with its status and metadata."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from perdure.v1 import (
    errors_pb2,
    instance_service_pb2,
    runner_service_pb2,
    server_service_pb2,
    timer_service_pb2,
    workflow_service_pb2,
)
from perdure_server.api.error_table import RESERVED_REASONS
from perdure_server.api.errors import error_response_of
from support.doc_pages import table, text_of
from unit.api.test_errors import EVERY_REFUSAL, THE_TABLE

PAGE: Final = text_of("docs/api.md")
MODULES: Final = (
    runner_service_pb2,
    instance_service_pb2,
    timer_service_pb2,
    workflow_service_pb2,
    server_service_pb2,
)


ERRORS: Final = {row[0].strip("`"): row for row in table(PAGE, "Errors")}


def test_every_service_and_rpc_is_documented_in_the_order_of_the_protos() -> None:
    real = []
    for module in MODULES:
        for name, service in module.DESCRIPTOR.services_by_name.items():
            real.append(f"**{name}**")
            real += [f"`{method.name}`" for method in service.methods]

    assert [row[0] for row in table(PAGE, "Services")] == real


def test_mutating_calls_take_a_request_id_and_paged_calls_a_token() -> None:
    kinds = {row[0].strip("`"): row[1] for row in table(PAGE, "Services")}
    for module in MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                fields = method.input_type.fields_by_name
                opts = fields["opts"].message_type.fields_by_name if "opts" in fields else {}
                kind = {
                    "request_id" in opts: "mutating",
                    "page_token" in fields: "paged",
                    method.server_streaming: "stream",
                }.get(True, "")
                assert kinds[method.name] == kind, method.name


@pytest.mark.parametrize(
    ("heading", "enum"),
    [
        ("Instance states", instance_service_pb2.InstanceState),
        ("Step states", instance_service_pb2.StepState),
    ],
)
def test_every_state_is_documented(heading: str, enum: Any) -> None:
    prefix = {"InstanceState": "INSTANCE_STATE_", "StepState": "STEP_STATE_"}[enum.DESCRIPTOR.name]
    real = {name.removeprefix(prefix) for name in enum.keys()} - {"UNSPECIFIED"}  # noqa: SIM118 - not a mapping
    rows = table(PAGE, heading)

    assert sorted(row[0] for row in rows) == sorted(f"`{name}`" for name in real)
    assert all(row[1] for row in rows)


def test_every_published_reason_has_a_row() -> None:
    published = [name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()]  # noqa: SIM118

    assert sorted(ERRORS) == sorted(set(published) - {"UNSPECIFIED"})
    assert all(len(row) == 5 and row[2] and row[4] for row in ERRORS.values())


@pytest.mark.parametrize("reason", sorted(THE_TABLE))
def test_the_row_of_a_reason_has_its_status_and_metadata_keys(reason: str) -> None:
    real = {key for of, error in EVERY_REFUSAL if of == reason for key in error_response_of(error).metadata}

    assert ERRORS[reason][1] == THE_TABLE[reason][1]
    assert set(re.findall(r"`(\w+)`", ERRORS[reason][3])) == real


def test_reserved_reasons_are_marked() -> None:
    assert {
        reason for reason, row in ERRORS.items() if "No call returns it yet" in row[2]
    } == RESERVED_REASONS
