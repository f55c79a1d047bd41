"""Workflows of the conformance scenarios, with those of the `Runner` suite.

Only the calls of a scenario decide their course, never chance or time.
"""

from __future__ import annotations

from contract.runner_flows import Approval, Approval1, Chain, Twins
from perdure import Context, Outcome, StepError, Workflow, sleep, step, wait_for


class Nap(Workflow, name="nap", version=1):
    """A sleep, whose timer no client may cancel."""

    start = "dream"
    dream = sleep("1h", then="end")


class Second(Workflow, name="second_try", version=1):
    """Fails for good at its first attempt and succeeds at its next one, which only a retry gives it."""

    start = "attempt"

    @step(on={"done": "end"})
    async def attempt(self, ctx: Context) -> Outcome:
        if ctx.attempt == 1:
            raise StepError("the first attempt always fails: größer 🚀", retryable=False)
        return Outcome("done", attempt=ctx.attempt)


class Copy(Workflow, name="copy", version=1):
    """A step that gives back a part of the context, then a wait: values on their way through a server's step."""

    start = "copy"

    @step(on={"copied": "hold"})
    async def copy(self, ctx: Context) -> Outcome:
        return Outcome("copied", value=ctx.input["value"])

    hold = wait_for("go", on={"go": "end"})


__all__ = ["Approval", "Approval1", "Chain", "Copy", "Nap", "Second", "Twins"]
