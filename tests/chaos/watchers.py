"""Watchers of a round. Each watches one instance after another, across crashes and its own reconnects."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any, Final

from grpc import aio

from chaos.ledger import Ledger, clocks
from chaos.load import Shared
from chaos.projection import of_message
from chaos.wire import Link, reason_of
from perdure.v1 import instance_service_pb2
from perdure.v1.instance_service_pb2_grpc import InstanceServiceStub

WATCH_SECONDS_MAX: Final = 600.0
LET_GO_SHARE: Final = 0.03
"""Share of entries after which a watcher drops its stream and reconnects from there."""


class Watcher:
    """Reads streams and writes down every message. ``instance_id`` and ``position`` say where it is."""

    _watches = itertools.count(1)

    def __init__(self, name: str, link: Link, ledger: Ledger, shared: Shared) -> None:
        self._name = name
        self._link = link
        self._ledger = ledger
        self._shared = shared
        self._random = random.Random(f"{shared.seed}/{name}")
        self.instance_id = ""
        self.position = 0
        self.resting = False
        """Set from outside: choose no new instance."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            while self.resting or not self._shared.instances:
                self.instance_id = ""
                await asyncio.sleep(0.02)
            instance_id, _ = self._random.choice(self._shared.instances[-12:])
            await self._follow(instance_id)

    async def _follow(self, instance_id: str) -> None:
        """Watch one instance to its end (or its failure), over as many streams as it takes."""
        watch = f"{self._name}-{next(self._watches)}"
        after: int | None = self._random.choice((None, 0, 0))
        self.instance_id, self.position = instance_id, 0
        try:
            for stream in itertools.count(1):
                self._note(watch, stream, what="open", after=after)
                ended = await self._stream(watch, stream, after)
                if ended:
                    return
                # Before its first message a watch has no position to continue from.
                after = self.position or after
        except asyncio.CancelledError:
            self._note(watch, 0, what="closed", revision=self.position)
            raise

    async def _stream(self, watch: str, stream: int, after: int | None) -> bool:
        """Read one stream; True when the instance is at its end, False when another stream must follow."""
        channel = await self._link.channel()
        request = instance_service_pb2.WatchInstanceRequest(
            instance_id=self.instance_id, after_revision=after
        )
        call = InstanceServiceStub(channel).WatchInstance(request, timeout=WATCH_SECONDS_MAX)
        try:
            async for message in call:
                what = message.WhichOneof("event")
                fields = _fields(message, what)
                self._note(watch, stream, what=what, after=after, **fields)
                self.position = fields["revision"]
                if what == "end":
                    return bool(fields["reason"] == "INSTANCE_ENDED")
                if self._random.random() < LET_GO_SHARE:
                    call.cancel()
                    return False
        except aio.AioRpcError as error:
            reason = reason_of(error)
            self._note(watch, stream, what="error", after=after, reason=reason or error.code().name)
            await asyncio.sleep(0.01)
            # Of an instance whose start was never answered; it may not be there.
            return reason == "INSTANCE_NOT_FOUND"
        return False

    def _note(self, watch: str, stream: int, **fields: Any) -> None:
        _, now_ms = clocks()
        self._ledger.write(watch=watch, stream=stream, instance_id=self.instance_id, seen_ms=now_ms, **fields)


def _fields(message: instance_service_pb2.WatchInstanceResponse, what: str | None) -> dict[str, Any]:
    match what:
        case "snapshot":
            return {"revision": message.snapshot.revision}
        case "entry":
            return {"revision": message.entry.revision, "entry": of_message(message.entry)}
        case "heartbeat":
            return {"revision": message.heartbeat.revision}
        case _:
            reason = instance_service_pb2.WatchEndReason.Name(message.end.reason)
            return {"revision": message.end.revision, "reason": reason.removeprefix("WATCH_END_REASON_")}
