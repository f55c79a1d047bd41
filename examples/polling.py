"""Order a report, poll until it is ready, and deliver it.

    perdure serve examples/polling.py
    perdure start report --context '{"month": "2026-05", "ready_after_polls": 4}' --instance-id report-1
    perdure watch report-1
    perdure start report --context '{"month": "1999-12"}'     # too old: rejected at the first poll

Polling uses retries. The step raises an exception while the report is not ready, and its policy sets the number of
polls and the pauses. Between two polls no code runs and no connection is open. A timer in the database waits. If you
stop the server and start it again, the next poll happens at its original time.

There is no report service in this example. The context has the number of polls that it takes, and comments mark the
places for real calls.
"""

from __future__ import annotations

from perdure import Context, Outcome, RetryPolicy, StepError, Workflow, step


class NotReady(StepError):
    """The report is not ready yet. Polling continues."""


class Rejected(StepError):
    """The report will never be ready. Polling ends."""

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
        # Pass the key to the service, so that repeated attempts order one report.
        return Outcome("ordered", job=f"job:{ctx.idempotency_key}")

    # Poll every five seconds for ten minutes. A poll that hangs counts as a poll without a result.
    @step(
        on={"ready": "deliver", "error": "apologize"},
        retry=RetryPolicy(max_attempts=120, initial_backoff="5s", multiplier=1.0, jitter=0.1),
        attempt_timeout="4s",
    )
    async def poll(self, ctx: Context) -> Outcome:
        # Query the service for ctx.steps["order"]["job"] here.
        if ctx.input["month"] < "2000-01":
            raise Rejected("reports start with the year 2000")
        if ctx.attempt < ctx.input.get("ready_after_polls", 3):
            raise NotReady(f"poll {ctx.attempt}: not ready yet")
        return Outcome("ready", url=f"https://reports.example/{ctx.input['month']}", polls=ctx.attempt)

    @step(on={"delivered": "end"})
    def deliver(self, ctx: Context) -> Outcome:
        return Outcome("delivered", mailed=ctx.steps["poll"]["url"])

    @step(on={"apologized": "end"})
    def apologize(self, ctx: Context) -> Outcome:
        # The output of a step that ended with `error` has the failure.
        failure = ctx.steps["poll"]
        return Outcome("apologized", because=failure["message"], rejected=failure["type"] == "Rejected")
