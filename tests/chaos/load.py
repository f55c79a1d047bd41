"""Clients of a round: seeded choices of calls on shared instances. Many calls are sent twice.

Owns: the choice of the next call. Must not: make calls (`wire` does) or judge their results (the checks do).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from chaos.flows import EVENTS_OF, FLOWS, STEPS_OF
from chaos.ledger import Outcome, Send
from chaos.wire import Wire, ok

INSTANCES_MAX: Final = 120
"""Per round; with them, the clients keep to what there is."""

TWICE_SHARE: Final = 0.2
NAMELESS_SHARE: Final = 0.06
"""Calls that carry no request id."""

EAGER_SHARE: Final = 0.4
"""Starts that are followed by events at once, before any step waits for them."""

LATER_MAX: Final = 60
"""Maximum number of delayed repeats. A repeat can be sent after a crash."""

_BODIES: Final = (
    "",
    "{}",
    '{"n": 9007199254740993}',
    '{"text": "zwölf Bögen \\u2603 ☃"}',
    "[1, 2.50, null]",
    '"a word"',
    "17",
    '{"deep": {"deeper": [{"deepest": true}]}}',
)


@dataclass(slots=True)
class Shared:
    """Data that all clients of a round share."""

    seed: int
    instances: list[tuple[str, str]] = field(default_factory=list)
    """(instance id, workflow) of every start that was answered, or asked for under a name."""
    ended: set[str] = field(default_factory=set)
    """Instances that a call found ended: they are chosen less from then on."""
    references: list[str] = field(default_factory=list)
    later: list[Send] = field(default_factory=list)


class Client:
    """A client that makes one call after another until it is stopped."""

    def __init__(self, wire: Wire, shared: Shared) -> None:
        self._wire = wire
        self._shared = shared
        self._random = random.Random(f"{shared.seed}/{wire.name}")
        self._number = 0
        self._calls: tuple[tuple[Callable[[], Awaitable[None]], int], ...] = (
            (self._start, 20),
            (self._resume, 34),
            (self._schedule, 10),
            (self._fire_timer, 5),
            (self._cancel_timer, 4),
            (self._cancel, 3),
            (self._retry, 6),
            (self._repeat, 6),
            (self._misuse, 1),
            (self._get, 6),
            (self._list_timers, 4),
            (self._history, 3),
            (self._list, 2),
        )

    async def run(self, stop: asyncio.Event) -> None:
        calls = [call for call, _ in self._calls]
        weights = [weight for _, weight in self._calls]
        while not stop.is_set():
            if not self._shared.instances:
                await self._start()
                continue
            (call,) = self._random.choices(calls, weights)
            await call()

    async def finish(self) -> None:
        """Send every repeat that still waits: after the last restart, the first answers must come back."""
        while self._shared.later:
            await self._wire.again(self._shared.later.pop())

    # --- calls that change something -------------------------------------------------------------------------

    async def _mutate(self, rpc: str, instance_id: str, fields: dict[str, object]) -> Send:
        """Make a call, a fifth of the time twice: at once, after the answer, or much later."""
        self._number += 1
        nameless = self._random.random() < NAMELESS_SHARE
        request_id = "" if nameless else f"{self._wire.name}.{self._number}"
        how = self._random.choice(("twin", "again", "later"))
        twice = bool(request_id) and self._random.random() < TWICE_SHARE
        call = self._wire.call(rpc, fields, instance_id=instance_id, request_id=request_id)
        if twice and how == "twin":
            twin = self._wire.call(rpc, fields, instance_id=instance_id, request_id=request_id)
            send, _ = await asyncio.gather(call, twin)
            return send
        send = await call
        if send.reason == "INSTANCE_ENDED":
            self._shared.ended.add(instance_id)
        if twice and how == "again":
            await self._wire.again(send)
        elif twice and len(self._shared.later) < LATER_MAX:
            self._shared.later.append(send)
        return send

    async def _start(self) -> None:
        shared, chance = self._shared, self._random
        if len(shared.instances) >= INSTANCES_MAX:
            await self._resume()
            return
        name = chance.choice(FLOWS).name
        instance_id = ""
        if chance.random() < 0.5:
            instance_id = f"{self._wire.name}:{self._number}"
        elif shared.instances and chance.random() < 0.05:
            instance_id, _ = chance.choice(shared.instances)
        send = await self._mutate(
            "StartInstance",
            "",
            {
                "workflow": name,
                "context": json.dumps({"number": self._number, "exact": 2**53 + self._number}),
                "instance_id": instance_id,
                "business_key": f"key-{chance.randrange(6)}" if chance.random() < 0.3 else "",
                "conflict_policy": chance.choice((0, 1, 2, 2)),
                "start_delay_ms": chance.randrange(1, 250) if chance.random() < 0.15 else 0,
                "labels": {"client": self._wire.name} if chance.random() < 0.9 else {},
            },
        )
        if ok(send):
            instance_id = send.answer["instance_id"]
        known = {known_id for known_id, _ in shared.instances}
        # One that was asked for under a name may be there although no answer came.
        if instance_id and send.outcome is not Outcome.REJECTED and instance_id not in known:
            shared.instances.append((instance_id, name))
        if ok(send) and chance.random() < EAGER_SHARE:
            for _ in range(chance.randrange(1, 4)):
                await self._send_event(instance_id, name, buffer=True)

    def _pick(self) -> tuple[str, str]:
        """Choose an instance, the young ones and those that may be under way more often."""
        instances = self._shared.instances
        if self._random.random() < 0.85:
            instances = [known for known in instances if known[0] not in self._shared.ended] or instances
        if self._random.random() < 0.7:
            return self._random.choice(instances[-12:])
        return self._random.choice(instances)

    async def _resume(self) -> None:
        instance_id, workflow = self._pick()
        await self._send_event(instance_id, workflow, buffer=self._random.random() < 0.5)

    async def _send_event(self, instance_id: str, workflow: str, *, buffer: bool) -> None:
        chance = self._random
        graph = next(flow.__graph__ for flow in FLOWS if flow.name == workflow)
        takers = [ref for ref, step in graph.steps.items() if step.events]
        named = chance.random() < 0.25
        any_step = chance.random() < 0.1 or not takers
        await self._mutate(
            "Resume",
            instance_id,
            {
                "event": "unheard_of" if chance.random() < 0.03 else chance.choice(EVENTS_OF[workflow]),
                "payload": chance.choice(_BODIES),
                "step_ref": chance.choice(STEPS_OF[workflow] if any_step else takers) if named else "",
                "buffer": buffer,
            },
        )

    async def _schedule(self) -> None:
        instance_id, workflow = self._pick()
        graph = next(flow.__graph__ for flow in FLOWS if flow.name == workflow)
        sound = [ref for ref, step in graph.steps.items() if "timeout" in step.on]
        any_step = self._random.random() < 0.1 or not sound
        step_ref = self._random.choice(STEPS_OF[workflow] if any_step else sound)
        delay_ms = self._random.choice((1, 5, 20, 50, 120, 300, 700, 3_600_000))
        send = await self._mutate("ScheduleResume", instance_id, {"step_ref": step_ref, "delay_ms": delay_ms})
        if ok(send):
            self._shared.references.append(send.answer["reference"])

    async def _cancel(self) -> None:
        instance_id, _ = self._pick()
        await self._mutate("CancelInstance", instance_id, {"reason": self._random.choice(("", "a whim"))})

    async def _retry(self) -> None:
        fragile = [known for known in self._shared.instances if known[1] == "chaos_brittle"]
        instance_id, _ = self._random.choice(fragile[-8:]) if fragile else self._pick()
        await self._mutate("RetryInstance", instance_id, {})

    async def _fire_timer(self) -> None:
        await self._timer("FireTimer")

    async def _cancel_timer(self) -> None:
        await self._timer("CancelTimer")

    async def _timer(self, rpc: str) -> None:
        references = self._shared.references
        if references:
            reference = self._random.choice(references[-30:])
            await self._mutate(rpc, reference.rpartition(".")[0], {"reference": reference})

    async def _repeat(self) -> None:
        """Send a call of some time ago again."""
        if self._shared.later:
            index = self._random.randrange(len(self._shared.later))
            await self._wire.again(self._shared.later.pop(index))

    async def _misuse(self) -> None:
        """Use the request id of an older Resume for another body."""
        older = [send for send in self._shared.later if send.rpc == "Resume"]
        if older:
            send = self._random.choice(older)
            fields = {**send.fields, "payload": '{"other": true}'}
            await self._wire.call(send.rpc, fields, instance_id=send.instance_id, request_id=send.request_id)

    # --- reads -----------------------------------------------------------------------------------------------

    async def _get(self) -> None:
        instance_id, _ = self._pick()
        await self._wire.call("GetInstance", {}, instance_id=instance_id)

    async def _history(self) -> None:
        instance_id, _ = self._pick()
        fields = {
            "after_revision": self._random.choice((0, 0, 1, 3)),
            "page_size": self._random.choice((2, 7, 0)),
        }
        await self._wire.call("ListHistory", fields, instance_id=instance_id)

    async def _list(self) -> None:
        labels = {"client": self._wire.name}
        await self._wire.call(
            "ListInstances", {"labels": labels, "page_size": self._random.choice((3, 10, 0))}
        )

    async def _list_timers(self) -> None:
        instance_id, _ = self._pick()
        send = await self._wire.call("ListTimers", {}, instance_id=instance_id)
        if ok(send):
            self._shared.references += send.answer["references"]
