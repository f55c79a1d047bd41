"""Sizes: a payload is at most 1 MiB; context, outputs and inbox of an instance at most 3 MiB."""

from __future__ import annotations

import json
from dataclasses import replace

from perdure.model.constants import INSTANCE_BYTES_MAX, PAYLOAD_BYTES_MAX
from perdure_server.engine import commands, facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import REPORTS_BYTES_MAX, Payload
from perdure_server.engine.decide import Decision, decide
from perdure_server.engine.state import InstanceState
from simulation.flows import flow, task, wait
from simulation.instance import Instance

MIB = 1 << 20
LINE = flow(
    wait("one", ok="two"),
    wait("two", ok="three"),
    task("three", ok="four", error="four"),
    wait("four", ok="five"),
    wait("five", ok="end"),
)


def text(size_bytes: int) -> Payload:
    """A JSON text of exactly so many bytes."""
    made = commands.payload('"' + "x" * (size_bytes - 2) + '"')
    assert made.info.size_bytes == size_bytes
    return made


def event(instance: Instance, size_bytes: int, *, buffer: bool = False) -> commands.Resume:
    return commands.Resume(at=instance.now, event="ok", payload=text(size_bytes), buffer=buffer)


def full() -> Instance:
    """An instance with its step `three` at hand, and one byte left."""
    instance = Instance(LINE, context=text(MIB - 1))
    instance.do(event(instance, MIB))
    instance.do(event(instance, MIB))
    assert instance.state.payload_bytes == INSTANCE_BYTES_MAX - 1
    instance.take("three")
    return instance


def test_the_limits_are_those_of_the_design() -> None:
    assert (PAYLOAD_BYTES_MAX, INSTANCE_BYTES_MAX) == (MIB, 3 * MIB)


def test_bytes_are_counted_and_not_characters() -> None:
    assert commands.payload('"ü"').info.size_bytes == 4


def test_a_payload_of_one_mebibyte_is_taken_and_one_byte_more_is_rejected() -> None:
    instance = Instance(LINE)
    rejection = instance.rejected(reject.PayloadTooLarge, event(instance, MIB + 1))
    assert rejection == reject.PayloadTooLarge("opts.payload", MIB + 1, MIB)

    instance.do(event(instance, MIB))


def test_what_is_too_large_is_not_buffered_either() -> None:
    instance = Instance(LINE)
    instance.do(event(instance, 10))
    instance.do(event(instance, 10))

    instance.rejected(reject.PayloadTooLarge, event(instance, MIB + 1, buffer=True))


def test_an_instance_holds_three_mebibytes_and_not_a_byte_more() -> None:
    instance = full()

    rejection = instance.rejected(reject.PayloadTooLarge, event(instance, 2, buffer=True))

    assert rejection == reject.PayloadTooLarge("opts.payload", INSTANCE_BYTES_MAX + 1, INSTANCE_BYTES_MAX)


def test_a_full_instance_still_takes_events_without_a_payload() -> None:
    instance = full()

    instance.do(commands.Resume(at=instance.now, event="ok", buffer=True))
    instance.do(commands.Resume(at=instance.now, event="ok", buffer=True, payload=commands.payload("{}")))


def test_a_consumed_event_is_counted_once() -> None:
    instance = Instance(LINE)
    counted = instance.state.payload_bytes
    instance.do(event(instance, 10))
    instance.do(event(instance, 10))
    instance.do(event(instance, 1_000, buffer=True))
    assert instance.state.payload_bytes == counted + 1_020

    instance.run("three", "ok")

    assert instance.event("four") == "ok"
    assert instance.state.payload_bytes == counted + 1_020


def test_an_output_that_is_too_large_is_a_failure_that_is_not_retried() -> None:
    instance = full()
    command = commands.FinishTask(at=instance.now, step_ref="three", attempt=1, event="ok", output=text(2))

    instance.do(command)

    assert instance.facts[:2] == ["AttemptFailed", "StepFinished"]
    assert instance.event("three") == "error"
    assert instance.output("three") == {
        "type": "OutputTooLarge",
        "message": "the output would bring 3145729 bytes, of at most 3145728",
        "attempts": 1,
    }


def test_an_error_report_that_finds_no_room_leaves_its_message_to_the_history() -> None:
    instance = full()
    crowded = replace(instance.state, payload_bytes=INSTANCE_BYTES_MAX + REPORTS_BYTES_MAX - 1_000)

    decision = decide(LINE, crowded, instance.fail("three", message="x" * 2_000, retryable=False))

    assert isinstance(decision, Decision)
    finished = decision.entries[1]
    assert isinstance(finished.fact, facts.StepFinished)
    assert finished.fact.failure == facts.Failure("ValueError", "x" * 2_000, 1)
    assert json.loads(decision.payloads[finished.revision]) == {
        "type": "ValueError",
        "message": "",
        "attempts": 1,
    }


def test_a_too_large_output_without_an_error_transition_fails_the_instance() -> None:
    instance = Instance(flow(task("work", ok="end")))
    instance.take("work")
    big = commands.FinishTask(
        at=instance.now, step_ref="work", attempt=1, event="ok", output=text(PAYLOAD_BYTES_MAX + 1)
    )

    instance.do(big)

    assert instance.status is InstanceState.FAILED
    fact = instance.last.cause.fact
    assert isinstance(fact, facts.AttemptFailed)
    assert fact.failure.type == "OutputTooLarge"


def test_an_empty_output_is_never_too_large() -> None:
    instance = full()

    instance.do(instance.finish("three", "ok", {}))

    assert instance.event("three") == "ok"
