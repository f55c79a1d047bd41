"""An order: charged and reserved in parallel, approved by a person, paused for a moment, then shipped.

    perdure serve examples/order.py
    perdure start order --context '{"items": ["lamp"], "total_cents": 4900}'
    perdure resume ID reserved            # the response of the warehouse
    perdure resume ID approved            # the response of a person

An order without items is invalid. A card named "declined" is declined, and the order is then released and never
ships. Every order that was charged is either shipped or refunded. It is refunded if the warehouse does not respond
within an hour, if a person rejects the order or does not respond within a day, and if the parcel cannot be sent. The
example calls no other system. Comments mark the places for calls to the systems of a shop.
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
        # A charged order continues with the approval if the warehouse has the items, otherwise with `sold_out`.
        on={"charged": ["approval", "sold_out"], "declined": "release"},
        retry=RetryPolicy(max_attempts=5, initial_backoff="200ms", max_backoff="30s"),
        attempt_timeout="10s",
    )
    def charge(self, ctx: Context) -> Outcome:
        card = ctx.input.get("card", "visa")
        if card == "declined":
            return Outcome("declined", reason="the bank declined the card")
        if card == "unknown":
            raise StepError("no such card", retryable=False)
        # Pass the key to the payment provider. Retries and crashes do not change it, so the provider charges once.
        return Outcome(
            "charged", payment_id=f"pay:{ctx.idempotency_key}", cents=ctx.input.get("total_cents", 0)
        )

    # The step ends with `error` after an hour without a response, and if the warehouse cannot be reached.
    @step(on={"reserved": "approval", "error": "sold_out"}, awaits={"reserved"}, wait_timeout="1h")
    async def reserve(self, ctx: Context) -> Suspend:
        # Call the warehouse here. It responds minutes later by Resume with the event `reserved`.
        log.info("requested %s from the warehouse", ctx.idempotency_key)
        return SUSPEND

    approval = wait_for(
        "approved",
        "rejected",
        timeout="24h",
        join="all",  # a declined charge leads to `release` instead, without an approval
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
        # Cancel the reservation at the warehouse here, even if it has not responded yet.
        return Outcome("released", reason=ctx.steps["charge"]["reason"])

    # Requires a charge that succeeded and a reservation that failed. Otherwise it is skipped.
    @step(on={"notified": "refund", "error": "refund"}, join="all")
    async def sold_out(self, ctx: Context) -> Outcome:
        # Notify the customer here.
        return Outcome("notified", reason="the warehouse did not reserve the items")

    # If every attempt fails, the order is FAILED until RetryInstance is called, so the refund is not lost.
    @step(
        on={"refunded": "end"},
        join="any",
        retry=RetryPolicy(max_attempts=20, initial_backoff="1s", max_backoff="10m"),
    )
    async def refund(self, ctx: Context) -> Outcome:
        # Pass the key to the payment provider, and cancel the reservation at the warehouse.
        return Outcome("refunded", payment_id=ctx.steps["charge"]["payment_id"])

    @step(on={"escalated": "refund", "error": "refund"})
    async def escalate(self, ctx: Context) -> Outcome:
        return Outcome("escalated", to="the shift lead", reason="no response within a day")
