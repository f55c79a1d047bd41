"""Conformance driver of the Python client: `perdure.AsyncClient` behind JSON lines.

Owns: the conversion of a line to a call, and of the result to a line. Must not: check results, or help the client.
README.md in this directory defines the lines.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from typing import Any

from perdure import AsyncClient, ConflictPolicy
from perdure.client import HistoryEntry, Instance, RawJson, Snapshot, Timer, TlsOptions, WatchEvent
from perdure.errors import PerdureError

Args = dict[str, Any]
Answer = dict[str, Any]


class Driver:
    """One client and its watches. Each op calls the method with its name."""

    def __init__(self) -> None:
        self._client: AsyncClient | None = None
        self._watches: dict[str, _Watch] = {}

    @property
    def client(self) -> AsyncClient:
        assert self._client is not None, "connect first"
        return self._client

    async def connect(self, target: str, **pems: str) -> Answer:
        await self.close()
        self._client = AsyncClient(target, tls=TlsOptions(**pems) if pems else None)
        return {}

    async def close(self) -> Answer:
        for watch in list(self._watches):
            await self.watch_close(watch)
        if self._client is not None:
            await self._client.close()
        return {}

    # --- start, resume, schedule ---------------------------------------------------------------------------------

    async def start_instance(
        self,
        workflow: str,
        context: str | None = None,
        conflict_policy: str = "FAIL",
        start_delay_ms: int = 0,
        **options: Any,
    ) -> Answer:
        started = await self.client.start_instance(
            workflow,
            None if context is None else RawJson(context),
            conflict_policy=ConflictPolicy[conflict_policy],
            start_delay=timedelta(milliseconds=start_delay_ms),
            **options,
        )
        return _fields(started, "instance_id", "created", "version", "revision")

    async def resume(
        self, instance_id: str, event: str, payload: str | None = None, **options: Any
    ) -> Answer:
        body = None if payload is None else RawJson(payload)
        resumed = await self.client.resume(instance_id, event, body, **options)
        return {"disposition": resumed.disposition.name, **_fields(resumed, "step_ref", "revision")}

    async def schedule_resume(self, **args: Any) -> Answer:
        return _fields(await self.client.schedule_resume(**args), "reference", "revision")

    # --- instances -----------------------------------------------------------------------------------------------

    async def get_instance(self, instance_id: str) -> Answer:
        return _instance(await self.client.get_instance(instance_id, raw_json=True))

    async def list_instances(self, **filters: Any) -> Answer:
        found = [
            {**_fields(item, "instance_id", "revision", "inbox_size"), "state": item.state.name}
            async for item in self.client.list_instances(**filters)
        ]
        return {"instances": found}

    async def list_history(self, **args: Any) -> Answer:
        return {"entries": [_entry(entry) async for entry in self.client.list_history(**args)]}

    async def cancel_instance(self, **args: Any) -> Answer:
        return _fields(await self.client.cancel_instance(**args), "revision")

    async def retry_instance(self, **args: Any) -> Answer:
        return _fields(await self.client.retry_instance(**args), "revision")

    # --- timers and workflows ------------------------------------------------------------------------------------

    async def get_timer(self, reference: str) -> Answer:
        return _timer(await self.client.get_timer(reference))

    async def list_timers(self, **args: Any) -> Answer:
        return {"timers": [_timer(timer) async for timer in self.client.list_timers(**args)]}

    async def cancel_timer(self, **args: Any) -> Answer:
        return _fields(await self.client.cancel_timer(**args), "revision")

    async def fire_timer(self, **args: Any) -> Answer:
        return _fields(await self.client.fire_timer(**args), "revision", "used")

    async def get_workflow(self, **args: Any) -> Answer:
        found = await self.client.get_workflow(**args)
        head = _fields(found, "name", "version", "digest")
        return {**head, "start": found.graph.start, "steps": list(found.graph.steps)}

    async def list_workflows(self) -> Answer:
        return {"workflows": [_fields(w, "name", "version") async for w in self.client.list_workflows()]}

    async def backup_database(self, file_name: str) -> Answer:
        backup = await self.client.backup_database(file_name)
        return {
            "path": backup.path,
            "size": backup.size_bytes > 0,
            "instances": backup.instances > 0,
            "snapshot": backup.snapshot_time is not None,
        }

    # --- watching ------------------------------------------------------------------------------------------------

    async def watch_open(self, watch: str, instance_id: str, after_revision: int | None = None) -> Answer:
        events = self.client.watch_instance(instance_id, after_revision=after_revision)
        self._watches[watch] = _Watch(events)
        return {}

    async def watch_next(self, watch: str, timeout_ms: int) -> Answer:
        event = await self._watches[watch].next(timeout_ms / 1000)
        match event:
            case None:
                return {"event": "timeout"}
            case Snapshot(instance=instance):
                return {"event": "snapshot", "revision": instance.revision}
            case HistoryEntry():
                return {"event": "entry", **_fields(event, "revision", "kind")}
            case _:
                return {"event": "end", "revision": event.revision}

    async def watch_close(self, watch: str) -> Answer:
        await self._watches.pop(watch).close()
        return {}


class _Watch:
    """A watch that requests its next event in advance, so that a timeout of `next` loses no event."""

    def __init__(self, events: AsyncGenerator[WatchEvent, None]) -> None:
        self._events = events
        self._next: asyncio.Task[WatchEvent] = asyncio.create_task(self._take())

    async def _take(self) -> WatchEvent:
        return await anext(self._events)

    async def next(self, timeout_s: float) -> WatchEvent | None:
        done, _ = await asyncio.wait({self._next}, timeout=timeout_s)
        if not done:
            return None
        event = self._next.result()
        self._next = asyncio.create_task(self._take())
        return event

    async def close(self) -> None:
        self._next.cancel()
        await asyncio.wait({self._next})
        if not self._next.cancelled():
            self._next.exception()
        await self._events.aclose()


def _fields(value: object, *names: str) -> Answer:
    return {name: getattr(value, name) for name in names}


def _instance(found: Instance) -> Answer:
    return {
        **_fields(found, "instance_id", "workflow", "version", "revision", "input", "business_key"),
        "state": found.state.name,
        "outputs": dict(found.outputs),
        "active_steps": [
            {
                **_fields(step, "step_ref", "attempt"),
                "state": step.state.name,
                "events": list(step.events),
            }
            for step in found.active_steps
        ],
        "step_results": [
            {**_fields(result, "step_ref", "event"), "state": result.state.name}
            for result in found.step_results
        ],
        "error": found.error and _fields(found.error, "step_ref", "type", "message", "attempts"),
        "labels": dict(found.labels),
    }


def _entry(entry: HistoryEntry) -> Answer:
    found = {name: getattr(entry.fact, name, "") for name in ("step_ref", "event")}
    return {**_fields(entry, "revision", "kind"), **{name: value for name, value in found.items() if value}}


def _timer(timer: Timer) -> Answer:
    return {**_fields(timer, "reference", "step_ref"), "kind": timer.kind.name}


async def _answered(ask: Callable[..., Awaitable[Answer]], args: Args) -> Answer:
    try:
        return {"ok": await ask(**args)}
    except PerdureError as error:
        return {
            "error": {
                **_fields(error, "reason", "code", "message"),
                "metadata": dict(error.metadata),
                "violations": [_fields(v, "field", "description") for v in error.violations],
            }
        }


async def main() -> None:
    """Respond to every line, in order, until `close` or the end of stdin."""
    driver = Driver()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        request = json.loads(line)
        answer = await _answered(getattr(driver, request["op"]), request.get("args") or {})
        sys.stdout.write(json.dumps({"id": request["id"], **answer}) + "\n")
        sys.stdout.flush()
        if request["op"] == "close":
            return


if __name__ == "__main__":
    asyncio.run(main())
