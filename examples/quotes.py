"""Request quotes from several carriers at once, and book the first one within half an hour.

    perdure serve examples/quotes.py
    perdure start freight --context '{"to": "Oslo"}' --instance-id freight-1
    perdure resume freight-1 quoted --step south --payload '{"cents": 5200}'
    perdure resume freight-1 quoted --step north --payload '{"cents": 4100}'     # too late: the other is booked
    perdure timers list
    perdure history freight-1

`book` joins with ``any``: the first branch that arrives starts it, a quote or the end of `patience`. Later arrivals
have no effect. `patience` is a `sleep`, and so is the day before the follow-up: a row in the database that survives
restarts, not a process that waits. Both carriers respond with the same event, so ``step_ref`` selects the carrier. The
instance completes when its last branch has ended. If a carrier never responds, its branch ends after two hours.
"""

from __future__ import annotations

from perdure import Context, Outcome, Workflow, sleep, step, wait_for

CARRIERS = ("north", "south")


class FreightFlow(Workflow, name="freight", version=1):
    start = "ask"

    @step(on={"asked": ["north", "south", "patience"]})
    async def ask(self, ctx: Context) -> Outcome:
        # Send each carrier the ID of the instance and the name of its step for the response.
        return Outcome("asked", carriers=CARRIERS)

    north = wait_for("quoted", timeout="2h", on={"quoted": "book", "timeout": "end"})
    south = wait_for("quoted", timeout="2h", on={"quoted": "book", "timeout": "end"})
    patience = sleep("30m", then="book")

    @step(on={"booked": "a_day_later"}, join="any")
    async def book(self, ctx: Context) -> Outcome:
        # The context has the steps that had ended when this one started: at most one quote, same on every attempt.
        for carrier in CARRIERS:
            if carrier in ctx.steps:
                return Outcome("booked", carrier=carrier, cents=ctx.steps[carrier]["cents"])
        return Outcome("booked", carrier="our own van", cents=9900)

    a_day_later = sleep("1d", then="follow_up")

    @step(on={"asked": "end"})
    async def follow_up(self, ctx: Context) -> Outcome:
        return Outcome("asked", question=f"How was {ctx.steps['book']['carrier']}?")
