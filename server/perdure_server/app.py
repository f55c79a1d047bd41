"""A server put together: the one place where every part meets the others.

`Core` is everything but the faces: store, runner, timers, executors. It runs workflows in any process, with or without
gRPC (`serve` and `perdure_server.embedded` stand on it). What lives here: construction, start, stop, in order. What may
not: rules of any part.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from perdure import Workflow, code_of, graph_of
from perdure_server.api.limits import Limits
from perdure_server.api.server import ApiServer
from perdure_server.config import Config
from perdure_server.engine import commands
from perdure_server.engine.commands import Grant
from perdure_server.engine.decide import Decision
from perdure_server.executors.in_process import InProcessExecutor
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.dispatcher import Dispatcher
from perdure_server.runtime.replica import Replica
from perdure_server.runtime.runner import Runner
from perdure_server.runtime.service import Runtime
from perdure_server.runtime.watch import WatchHub
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.store.open import open_store
from perdure_server.store.protocol import Store, TimerGuard, TimerRow
from perdure_server.timers.alarm import Alarm
from perdure_server.timers.apscheduler_alarm import ApschedulerAlarm
from perdure_server.timers.window import TimerWindow

log = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 0.5
"""How often readiness is looked at: what stops is noticed within a second."""

SWITCH_SECONDS: Final = 0.0005
"""How long a thread may hold the interpreter while another waits (CPython's default is ten times that). The server's
loop, the writer and the steps' loop hand work to each other all the time.
"""


class Core:
    """Store, runner, timers and executors of one process, on the running event loop.

    ``workflows`` are the classes whose code this process runs; instances of others are stored and wait.
    """

    def __init__(
        self,
        store: Store,
        workflows: Sequence[type[Workflow]] = (),
        *,
        alarm: Alarm | None = None,
        steps_max: int = Config.steps_max,
        threads_max: int = Config.threads_max,
    ) -> None:
        self.store = store
        self._workflows = workflows
        self._steps_max = steps_max
        self._threads_max = threads_max
        self.replica = Replica(store)
        self.committer = GroupCommitter(store)
        self.definitions = Definitions(store)
        self.watch = WatchHub(store)
        self.dispatcher = Dispatcher(store, self._submit, self._submit_take, self.replica.id)
        self.timers = TimerWindow(store, alarm or ApschedulerAlarm(), self._submit_timer, self.replica.id)
        self.runner = Runner(
            store=store,
            committer=self.committer,
            definitions=self.definitions,
            tasks=self.dispatcher,
            timers=self.timers,
            watch=self.watch,
        )
        self.runtime = Runtime(
            store=store,
            runner=self.runner,
            definitions=self.definitions,
            watch=self.watch,
            has_code=self.dispatcher.has_code,
        )
        self.executor: InProcessExecutor | None = None

    async def start(self) -> None:
        """Open the store, register the definitions, recover what is due, begin to run.

        Raises a `StoreError` where the database cannot be had, and `DefinitionInUse`.
        """
        async with contextlib.AsyncExitStack() as undo:
            await self.store.open()
            undo.push_async_callback(self.store.close)
            for workflow in self._workflows:
                await self.definitions.register(graph_of(workflow))
            await self.replica.start()
            undo.push_async_callback(self.replica.stop)
            self.replica.on_new_id(self.dispatcher.replica_changed)
            self.replica.on_new_id(self.timers.replica_changed)
            if self._workflows:
                await self._start_executor()
                undo.push_async_callback(self._stop_executor)
            await self.dispatcher.start()
            await self.timers.start()
            undo.pop_all()

    async def stop(self, grace_seconds: float = Config.grace_seconds) -> None:
        """Run nothing new, commit what ends within the grace time, release the rest, close the store."""
        self.watch.drain()
        await self.dispatcher.drain(grace_seconds)
        await self.timers.stop(grace_seconds)
        await self._stop_executor()
        await self.runner.close()
        await self.committer.close()
        await self.replica.stop()
        await self.store.close()

    def healthy(self) -> bool:
        """Whether this process does its work: timers fire in time, steps get their turn."""
        return self.timers.healthy() and (self.executor is None or self.executor.healthy())

    async def _start_executor(self) -> None:
        objects = [workflow() for workflow in self._workflows]
        self.executor = InProcessExecutor(
            objects, self.dispatcher.done, steps_max=self._steps_max, threads_max=self._threads_max
        )
        await self.executor.start()
        code = {
            (graph_of(item).name, graph_of(item).version): frozenset(code_of(item)) for item in objects
        }
        self.dispatcher.register(self.executor, code, self._steps_max)

    async def _stop_executor(self) -> None:
        if self.executor is not None:
            await self.executor.stop()

    # --- the ways into the runner ----------------------------------------------------------------------------

    def _submit(self, instance_id: str, command: commands.Command) -> asyncio.Future[Decision]:
        return self.runner.submit(instance_id, command)

    def _submit_take(
        self, instance_id: str, command: commands.TakeTask, grant: Grant
    ) -> asyncio.Future[Decision]:
        return self.runner.submit(instance_id, command, grant=grant)

    def _submit_timer(self, row: TimerRow) -> asyncio.Future[Any]:
        command = commands.FireTimer(
            at=self.store.now_ms(), timer=row.timer.revision, jitter=random.random()
        )
        guards = (TimerGuard(row.timer.revision, row.owner),)
        return self.runner.submit(row.instance_id, command, guards=guards)
