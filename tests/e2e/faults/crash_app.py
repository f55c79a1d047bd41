"""Steps that kill the server process, and steps that do not. Each attempt writes a line to a ledger."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from pathlib import Path

from perdure import Context, Outcome, RetryPolicy, Workflow, step

ONCE = RetryPolicy(max_attempts=1)
LEDGER = Path(os.environ["PERDURE_TEST_LEDGER"])


def note(ctx: Context) -> None:
    with LEDGER.open("a") as ledger:
        ledger.write(f"{ctx.instance_id} {ctx.attempt}\n")


class Innocent(Workflow, name="innocent", version=1):
    """Takes a while, and must not be retried after a failure."""

    start = "work"

    @step(on={"done": "end"}, retry=ONCE)
    async def work(self, ctx: Context) -> Outcome:
        note(ctx)
        await asyncio.sleep(ctx.input["seconds"])
        return Outcome("done")


class Exits(Workflow, name="exits", version=1):
    start = "work"

    @step(on={"done": "end"}, retry=ONCE)
    async def work(self, ctx: Context) -> Outcome:
        note(ctx)
        await asyncio.sleep(ctx.input["seconds"])
        os._exit(3)


class ExitsInThread(Workflow, name="exits_in_thread", version=1):
    start = "work"

    @step(on={"done": "end", "error": "after"}, retry=RetryPolicy(max_attempts=2, initial_backoff="10ms"))
    def work(self, ctx: Context) -> Outcome:
        note(ctx)
        time.sleep(ctx.input["seconds"])
        os.abort()

    @step(on={"done": "end"})
    def after(self, ctx: Context) -> Outcome:
        return Outcome("done", report=ctx.steps["work"])


class Dereferences(Workflow, name="dereferences", version=1):
    start = "work"

    @step(on={"done": "end"}, retry=ONCE)
    def work(self, ctx: Context) -> Outcome:
        note(ctx)
        time.sleep(ctx.input["seconds"])
        ctypes.string_at(0)
        return Outcome("done")
