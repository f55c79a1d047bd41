"""The workflows of the `Runner` suite: waits only, so that nothing happens without a call."""

from __future__ import annotations

from perdure import Workflow, wait_for


class Approval1(Workflow, name="approval", version=1):
    """`approval` before its second version."""

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


FLOWS = (Approval1, Approval, Chain, Twins)
