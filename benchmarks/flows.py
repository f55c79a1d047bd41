"""The workflows that the benchmarks run."""

from __future__ import annotations

from perdure import Context, Outcome, Workflow, step, wait_for


class Parked(Workflow, name="parked", version=1):
    """The first step waits: a start stores the instance and nothing runs until an answer comes, or a timer."""

    start = "answer"

    answer = wait_for("answered", on={"answered": "end", "timeout": "end"})


class Lifecycle(Workflow, name="lifecycle", version=1):
    """A step, a wait, a step."""

    start = "prepare"

    @step(on={"ready": "answer"})
    async def prepare(self, ctx: Context) -> Outcome:
        return Outcome("ready", order=ctx.input["order"])

    answer = wait_for("answered", on={"answered": "conclude"})

    @step(on={"done": "end"})
    async def conclude(self, ctx: Context) -> Outcome:
        return Outcome("done", amount=ctx.steps["answer"]["amount"])
