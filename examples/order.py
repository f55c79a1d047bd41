"""An order: paid and reserved in parallel, approved by a person, given a moment to cool down, then shipped.

    perdure serve examples/order.py
    perdure start order --context '{"items": ["lamp"], "total_cents": 4900}'
    perdure resume ID reserved            # the warehouse answers
    perdure resume ID approved            # a person answers

An order of nothing is invalid. A card called "declined" is declined: the order is then released and never
ships. Every order that was charged is either shipped or refunded: if the warehouse does not answer within an hour, if a
person rejects the order or does not answer within a day, and if the parcel cannot be sent. Nothing outside this file is
called; where a real order would reach a shop's systems, a comment says so.
"""

from __future__ import annotations

import logging

from perdure import (
    SUSPEND,
    Context,
    Outcome,
    RetryPolicy,
    StepError,
    Suspend,
    Workflow,
    sleep,
    step,
    wait_for,
)

log = logging.getLogger("order")


class OrderFlow(Workflow, name="order", version=1):
    start = "validate"

    @step(on={"valid": ["charge", "reserve"], "invalid": "end"})
    async def validate(self, ctx: Context) -> Outcome:
        items = ctx.input.get("items")
        if not isinstance(items, list) or not items:
            return Outcome("invalid", reason="an order names at least one item")
        return Outcome("valid", item_count=len(items))

    @step(
        # An order that was charged goes to the approval if the warehouse has the items, else to `sold_out`.
        on={"charged": ["approval", "sold_out"], "declined": "release"},
        retry=RetryPolicy(max_attempts=5, initial_backoff="200ms", max_backoff="30s"),
        attempt_timeout="10s",
    )
    def charge(self, ctx: Context) -> Outcome:
        card = ctx.input.get("card", "visa")
        if card == "declined":
            return Outcome("declined", reason="the bank said no")
        if card == "unknown":
            raise StepError("no such card", retryable=False)
        # A payment provider is given the key, which no retry and no crash changes: it charges once.
        return Outcome(
            "charged", payment_id=f"pay:{ctx.idempotency_key}", cents=ctx.input.get("total_cents", 0)
        )

    # Silence for an hour ends the step with `error`, and so does a warehouse that cannot be asked.
    @step(on={"reserved": "approval", "error": "sold_out"}, awaits={"reserved"}, wait_timeout="1h")
    async def reserve(self, ctx: Context) -> Suspend:
        # A warehouse is asked here; its answer comes minutes later, by Resume with the event `reserved`.
        log.info("asked the warehouse for %s", ctx.idempotency_key)
        return SUSPEND

    approval = wait_for(
        "approved",
        "rejected",
        timeout="24h",
        join="all",  # a declined charge goes to `release` instead: then nothing is left to approve
        on={"approved": "cooldown", "rejected": "refund", "timeout": "escalate"},
    )

    cooldown = sleep("30s", then="ship")

    @step(on={"shipped": "end", "error": "refund"})
    async def ship(self, ctx: Context) -> Outcome:
        return Outcome(
            "shipped", parcel=f"parcel:{ctx.idempotency_key}", item_count=ctx.steps["validate"]["item_count"]
        )

    @step(on={"released": "end"})
    async def release(self, ctx: Context) -> Outcome:
        # The warehouse drops the order, whether its answer has come or not.
        return Outcome("released", reason=ctx.steps["charge"]["reason"])

    # Needs both: a charge that succeeded and a reservation that failed. Otherwise it is skipped.
    @step(on={"told": "refund", "error": "refund"}, join="all")
    async def sold_out(self, ctx: Context) -> Outcome:
        # Notify the customer here.
        return Outcome("told", reason="the warehouse did not reserve the items")

    # If it fails for good, the order is FAILED until somebody calls RetryInstance: the money is never forgotten.
    @step(
        on={"refunded": "end"},
        join="any",
        retry=RetryPolicy(max_attempts=20, initial_backoff="1s", max_backoff="10m"),
    )
    async def refund(self, ctx: Context) -> Outcome:
        # The payment provider gets the key, and the warehouse drops the order.
        return Outcome("refunded", payment_id=ctx.steps["charge"]["payment_id"])

    @step(on={"escalated": "refund", "error": "refund"})
    async def escalate(self, ctx: Context) -> Outcome:
        return Outcome("escalated", to="the shift lead", reason="nobody answered within a day")
