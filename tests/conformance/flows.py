"""Workflows of the conformance table. Only the calls of a scenario decide their course, never chance or time."""

from __future__ import annotations

from perdure import Context, Outcome, StepError, Workflow, sleep, step, wait_for


class Approval1(Workflow, name="approval", version=1):
    """First version of `approval`."""

    start = "decide"
    decide = wait_for("approved", on={"approved": "end"})


class Approval(Workflow, name="approval", version=2):
    """One wait, which a timer may end too."""

    start = "decide"
    decide = wait_for(
        "approved", "rejected", timeout="1h", on={"approved": "end", "rejected": "end", "timeout": "end"}
    )


class Chain(Workflow, name="chain", version=1):
    """Three waits in a row, of which only the second can time out, and a way round the second."""

    start = "first"
    first = wait_for("one", "skip", on={"one": "second", "skip": "third"})
    second = wait_for("two", timeout="1h", on={"two": "third", "timeout": "third"})
    third = wait_for("three", on={"three": "end"})


class Twins(Workflow, name="twins", version=1):
    """Two waits for the same event, side by side."""

    start = "open"
    open = wait_for("opened", on={"opened": ["left", "right"]})
    left = wait_for("go", on={"go": "end"})
    right = wait_for("go", on={"go": "end"})


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
