"""docs/workflows/reference.md is complete: every attribute, option and limit, with its value."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, Final

import pytest

from perdure import Context, RetryPolicy, sleep, step, wait_for
from perdure.model import constants, graph, validation
from perdure_server.engine import commands
from perdure_server.executors import in_process, step_threads
from support.doc_pages import table, text_of

PAGE: Final = text_of("docs/workflows/reference.md")


def names_of(heading: str) -> list[str]:
    return [row[0].strip("`") for row in table(PAGE, heading)]


def test_every_attribute_of_the_context_is_documented() -> None:
    fields = [field.name for field in dataclasses.fields(Context)]
    properties = [name for name, value in vars(Context).items() if isinstance(value, property)]

    assert sorted(names_of("Context")) == sorted(fields + properties)


def test_every_option_of_a_retry_policy_has_its_default() -> None:
    real = [
        [f"`{field.name}`", f"`{field.default!r}`".replace("'", '"')]
        for field in dataclasses.fields(RetryPolicy)
    ]

    assert [row[:2] for row in table(PAGE, "RetryPolicy")] == real
    assert repr(RetryPolicy()).replace("'", '"') in PAGE


@pytest.mark.parametrize(
    ("heading", "function"), [("Task options", step), ("Wait options", wait_for), ("Sleep options", sleep)]
)
def test_every_option_of_a_step_is_documented(heading: str, function: Any) -> None:
    parameters = inspect.signature(function).parameters.values()
    required = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}

    assert names_of(heading) == [p.name for p in parameters]
    assert {row[0].strip("`") for row in table(PAGE, heading) if row[1] == "required"} == required


def test_every_limit_for_workflows_has_its_value() -> None:
    mib = 1 << 20
    real = [
        f"{validation.STEPS_MAX:,}",
        f"{validation.TRANSITIONS_MAX:,}",
        f"{validation.ATTEMPTS_MAX:,}",
        f"{validation.MULTIPLIER_MAX:,.0f}",
        f"{constants.PAYLOAD_BYTES_MAX // mib} MiB",
        f"{constants.INSTANCE_BYTES_MAX // mib} MiB",
        f"{constants.NESTING_MAX} levels",
        f"{commands.INBOX_EVENTS_MAX:,}",
        f"{commands.REQUESTED_TIMERS_MAX:,}",
        f"{commands.FAILURE_TYPE_CHARS_MAX:,} characters",
        f"{commands.FAILURE_MESSAGE_CHARS_MAX:,} characters",
        f"{in_process.LIFESPAN_SECONDS_MAX:g} s",
        f"{in_process.ASYNC_STEPS_MAX}",
        f"{step_threads.SYNC_STEPS_MAX}",
    ]

    assert [row[1] for row in table(PAGE, "Limits for workflows")] == real


def test_names_and_reserved_names_are_documented() -> None:
    rows = {row[0]: row[1] for row in table(PAGE, "Names")}

    assert rows["workflow, step, event"] == f"`^{graph.NAME_PATTERN.pattern}$`"
    assert set(re.findall(r"`(\w+)`", rows["reserved step names"])) == validation.RESERVED_REFS
    assert set(re.findall(r"`(\w+)`", rows["reserved events"])) == graph.RESERVED_EVENTS
    assert rows["version"] == f"1 to {validation.VERSION_MAX:,}"
