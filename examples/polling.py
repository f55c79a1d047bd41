"""A report that takes its time: ordered once, asked for every few seconds until it is ready, then delivered.

    perdure serve examples/polling.py
    perdure start report --context '{"month": "2026-05", "ready_after_polls": 4}' --instance-id report-1
    perdure watch report-1
    perdure start report --context '{"month": "1999-12"}'     # too old: refused at the first poll

Polling is retrying: the step raises as long as the report is not ready, and its policy says how often, how far apart
and for how long. Between two polls nothing runs and nothing is held open; a timer in the database waits. Stop the
server in between and start it again: the next poll comes when it was due.

There is no report service here, so the context says how many polls it takes. Where a real one would be called, a
comment says so.
"""

from __future__ import annotations

from perdure import Context, Outcome, RetryPolicy, StepError, Workflow, step


class NotReady(StepError):
    """The report is still being made: worth another poll."""


class Refused(StepError):
    """The report will never be ready: no poll will change that."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class ReportFlow(Workflow, name="report", version=1):
    start = "order"

    @step(
        on={"ordered": "poll"},
        retry=RetryPolicy(max_attempts=10, initial_backoff="1s", max_backoff="1m"),
        attempt_timeout="10s",
    )
    async def order(self, ctx: Context) -> Outcome:
        # The service is given the key with the order: however often this runs, it makes one report.
        return Outcome("ordered", job=f"job:{ctx.idempotency_key}")

    # Every five seconds, for ten minutes; a poll that hangs counts as one that found nothing.
    @step(
        on={"ready": "deliver", "error": "apologize"},
        retry=RetryPolicy(max_attempts=120, initial_backoff="5s", multiplier=1.0, jitter=0.1),
        attempt_timeout="4s",
    )
    async def poll(self, ctx: Context) -> Outcome:
        # The service is asked about ctx.steps["order"]["job"] here.
        if ctx.input["month"] < "2000-01":
            raise Refused("reports begin with the year 2000")
        if ctx.attempt < ctx.input.get("ready_after_polls", 3):
            raise NotReady(f"poll {ctx.attempt}: still being made")
        return Outcome("ready", url=f"https://reports.example/{ctx.input['month']}", polls=ctx.attempt)

    @step(on={"delivered": "end"})
    def deliver(self, ctx: Context) -> Outcome:
        return Outcome("delivered", mailed=ctx.steps["poll"]["url"])

    @step(on={"apologized": "end"})
    def apologize(self, ctx: Context) -> Outcome:
        # The output of a step that took its `error` arrow says what went wrong.
        failure = ctx.steps["poll"]
        return Outcome("apologized", because=failure["message"], refused=failure["type"] == "Refused")
