"""Checks stored request IDs: each must belong to the history entry that it caused, with its response and digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import orjson

from perdure_server.engine import facts
from perdure_server.engine.commands import EMPTY_OBJECT
from perdure_server.engine.commands import payload as payload_of
from perdure_server.engine.facts import Entry
from perdure_server.runtime.integrity_history import entry_of
from perdure_server.runtime.operations import RPC_START, request_digest
from perdure_server.runtime.results import ConflictPolicy, Disposition
from perdure_server.store.sqlite.offline import OfflineDatabase

_EMPTY_DIGEST: Final = payload_of(EMPTY_OBJECT).info.digest


@dataclass(frozen=True, slots=True)
class ExpectedRequest:
    """The row of `requests` that an entry follows from. ``digests`` has every value that the digest can have."""

    rpc: str
    scope: str
    response: Mapping[str, Any]
    digests: frozenset[str]


def expected_request(instance_id: str, entry: Entry) -> ExpectedRequest | None:
    """Return the request that caused an entry, None if a request cannot cause such an entry.

    Fields of a request that the history does not keep (options that made no difference) are tried with every value.
    """
    revision = entry.revision
    match entry.fact:
        case facts.InstanceStarted() as fact:
            response = {
                "instance_id": instance_id,
                "created": True,
                "version": fact.version,
                "revision": revision,
            }
            variants = product((0, fact.version), ("", instance_id), ConflictPolicy)
            return ExpectedRequest(
                RPC_START,
                "",
                response,
                frozenset(
                    request_digest(
                        (
                            fact.workflow,
                            version,
                            fact.input.digest,
                            given,
                            fact.business_key,
                            policy,
                            fact.start_delay_ms,
                            sorted(fact.labels.items()),
                        )
                    )
                    for version, given, policy in variants
                ),
            )
        case facts.StepFinished(step_ref=ref, event=event, output=info):
            return _resume(instance_id, revision, Disposition.DELIVERED, ref, event, info, ("", ref))
        case facts.EventBuffered(step_ref=ref, event=event, payload=info):
            return _resume(instance_id, revision, Disposition.BUFFERED, ref, event, info, ("", ref))
        case facts.TimerArmed(step_ref=ref, due_at=due_at, delay_ms=delay_ms):
            response = {"reference": f"{instance_id}.{revision}", "due_at": due_at, "revision": revision}
            return ExpectedRequest("ScheduleResume", instance_id, response, _one((ref, delay_ms)))
        case facts.InstanceCancelled(reason=reason):
            return ExpectedRequest("CancelInstance", instance_id, {"revision": revision}, _one((reason,)))
        case facts.InstanceRetried():
            return ExpectedRequest("RetryInstance", instance_id, {"revision": revision}, _one(()))
        case facts.TimerCancelled(timer=timer):
            return ExpectedRequest("CancelTimer", instance_id, {"revision": revision}, _one((timer,)))
        case facts.TimerFired(timer=timer, used=used):
            response = {"used": used, "revision": revision}
            return ExpectedRequest("FireTimer", instance_id, response, _one((timer,)))
        case _:
            return None


def _resume(
    instance_id: str,
    revision: int,
    disposition: Disposition,
    step_ref: str,
    event: str,
    info: facts.PayloadInfo | None,
    given: tuple[str, str],
) -> ExpectedRequest:
    digest = _EMPTY_DIGEST if info is None else info.digest
    response = {"disposition": disposition.value, "step_ref": step_ref, "revision": revision}
    digests = frozenset(
        request_digest((event, digest, ref, buffer)) for ref, buffer in product(given, (False, True))
    )
    return ExpectedRequest("Resume", instance_id, response, digests)


def _one(values: tuple[Any, ...]) -> frozenset[str]:
    return frozenset((request_digest(values),))


def request_problems(database: OfflineDatabase, limit: int) -> Iterator[str]:
    """Yield requests that differ from the entry that they caused, at most ``limit``, then the number of the others."""
    problems = 0
    for row in database.every_row("requests"):
        try:
            problem = _problem(database, row)
        except Exception as error:  # noqa: BLE001 - damage can raise anything
            problem = f"cannot be read: {type(error).__name__}"
        if problem:
            problems += 1
            if problems <= limit:
                yield f"request {row['request_id']!r} of {row['rpc']!r} {row['instance_id']!r}: {problem}"
    if problems > limit:
        yield f"and {problems - limit} more requests"


def _problem(database: OfflineDatabase, row: Mapping[str, Any]) -> str:
    response = orjson.loads(row["response"])
    if not isinstance(response, dict) or type(response.get("revision")) is not int:
        return "the response cannot be read"
    instance_id = response.get("instance_id") if row["rpc"] == RPC_START else row["instance_id"]
    if not isinstance(instance_id, str):
        return "the response does not name an instance"
    history = database.history_at(instance_id, (1, response["revision"]))
    first, entry = history.get(1), history.get(response["revision"])
    if first is None or entry is None:
        return "the response names an entry that is missing"
    if row["rpc"] == RPC_START and response.get("created") is False:
        return _existing_problem(row, response, entry_of(first))
    cause = entry_of(entry)
    if isinstance(cause, str):
        return cause
    expected = expected_request(instance_id, cause)
    if expected is None or (expected.rpc, expected.scope) != (row["rpc"], row["instance_id"]):
        return "the entry that it names was not caused by such a request"
    if cause.request_id != row["request_id"]:
        return "the entry that it names was caused by another request"
    if response != expected.response:
        return "the response differs from the history"
    if row["digest"] not in expected.digests:
        return "the digest differs from the history"
    return ""


def _existing_problem(row: Mapping[str, Any], response: Mapping[str, Any], first: Entry | str) -> str:
    """Check a start that returned an existing instance. No entry repeats its digest and its revision."""
    if isinstance(first, str):
        return first
    fact = first.fact
    if not isinstance(fact, facts.InstanceStarted):
        return "the response names an instance that was not started"
    if first.request_id == row["request_id"]:
        return "the response differs from the history"
    if row["instance_id"] or response.get("version") != fact.version:
        return "the response differs from the history"
    if len(row["digest"]) != len(_EMPTY_DIGEST) or set(row["digest"]) - set("0123456789abcdef"):
        return "the digest is malformed"
    return ""
