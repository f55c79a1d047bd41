"""App of a server under load: a wait, a sequence of waits, and a slow step."""

from __future__ import annotations

import asyncio
from typing import Final

from perdure import Context, Outcome, Workflow, step, wait_for

TICKS: Final = 5


class Waiting(Workflow, name="waiting", version=1):
    start = "decide"
    decide = wait_for("go", timeout="1h", on={"go": "end", "timeout": "end"})


class Ticks(Workflow, name="ticks", version=1):
    """Takes five ticks."""

    start = "one"
    one = wait_for("tick", on={"tick": "two"})
    two = wait_for("tick", on={"tick": "three"})
    three = wait_for("tick", on={"tick": "four"})
    four = wait_for("tick", on={"tick": "five"})
    five = wait_for("tick", on={"tick": "end"})


class Slow(Workflow, name="slow", version=1):
    """A step that takes the given number of milliseconds."""

    start = "work"

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        await asyncio.sleep(ctx.input["ms"] / 1_000)
        return Outcome("done")
