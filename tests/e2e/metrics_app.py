"""App of a server whose metrics are tested: steps that end in every possible way, a timer and a wait."""

from __future__ import annotations

import asyncio
from typing import Final

from perdure import Context, Outcome, RetryPolicy, StepError, Workflow, sleep, step, wait_for

SECRET: Final = "4111-1111"


class Measured(Workflow, name="measured", version=1):
    """A step that fails once, a timer, a step in a thread."""

    start = "stumble"

    @step(on={"done": "pause"}, retry=RetryPolicy(max_attempts=2, initial_backoff="1ms"))
    async def stumble(self, ctx: Context) -> Outcome:
        if ctx.attempt == 1:
            raise ValueError(SECRET)
        return Outcome("done", secret=SECRET)

    pause = sleep("20ms", then="finish")

    @step(on={"done": "end"})
    def finish(self, ctx: Context) -> Outcome:
        return Outcome("done")


class Failing(Workflow, name="failing", version=1):
    start = "work"

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        raise StepError(SECRET, retryable=False)


class Endless(Workflow, name="endless", version=1):
    start = "work"

    @step(on={"done": "end"}, attempt_timeout="50ms", retry=RetryPolicy(max_attempts=1))
    async def work(self, ctx: Context) -> Outcome:
        await asyncio.Event().wait()
        return Outcome("done")


class Waiting(Workflow, name="waiting", version=1):
    start = "decide"
    decide = wait_for("go", timeout="1h", on={"go": "end", "timeout": "end"})


class Slow(Workflow, name="slow", version=1):
    start = "work"

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        await asyncio.Event().wait()
        return Outcome("done")
