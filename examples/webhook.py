"""A payment that a provider confirms by webhook: after the step asked for it, while it asks, or before it began to.

    perdure serve examples/webhook.py
    perdure start checkout --context '{"cents": 4900}' --instance-id checkout-1
    perdure resume checkout-1 paid --payload '{"by": "card"}'                  # the webhook, in time
    perdure start checkout --context '{"cents": 900, "slow": true}' --instance-id checkout-2
    perdure resume checkout-2 paid --payload '{"by": "card"}' --buffer         # the webhook, before anybody waits

`collect` asks the provider and returns SUSPEND: its code is done, and the step waits, for days if need be, until an
event comes from outside. A webhook knows nothing of that. It may overtake the answer of the very call that caused
it; then the step still runs, and the event is kept for it. It may come before the step has begun (the customer paid
from an older link); then ``buffer`` keeps it. And providers send webhooks again until they see a 200, so each
carries an id that makes the repetition harmless. `on_webhook` below is all that a web handler has to do.

A payment can also come when nothing will be shipped any more. `stray` waits for it and `refund` returns it, so every
payment is either shipped or refunded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from perdure import SUSPEND, Context, Outcome, RetryPolicy, Runner, Suspend, Workflow, step, wait_for
from perdure.errors import EventNeverAcceptedError, InstanceEndedError, InstanceNotFoundError

log = logging.getLogger("webhook")


class CheckoutFlow(Workflow, name="checkout", version=1):
    start = "screen"

    @step(on={"clean": "collect", "suspicious": "stray"})
    async def screen(self, ctx: Context) -> Outcome:
        if ctx.input.get("slow"):
            await asyncio.sleep(10)  # a fraud check that thinks for a while
        return Outcome("clean" if ctx.input["cents"] < 1_000_000 else "suspicious")

    @step(
        on={"paid": "ship", "refused": "regret", "timeout": "regret", "error": "regret"},
        awaits={"paid", "refused"},
        wait_timeout="3d",
        retry=RetryPolicy(max_attempts=8, initial_backoff="1s", max_backoff="5m"),
    )
    async def collect(self, ctx: Context) -> Suspend:
        # The provider is asked to collect ctx.input["cents"] here. It gets the instance's id as its reference,
        # which comes back in the webhook, and the idempotency key, so that a retry asks for nothing twice.
        return SUSPEND

    @step(on={"shipped": "end", "error": "refund"})
    async def ship(self, ctx: Context) -> Outcome:
        # What the webhook brought is the output of the step that waited for it.
        return Outcome("shipped", paid_by=ctx.steps["collect"]["by"])

    @step(on={"regretted": "stray", "error": "stray"})
    async def regret(self, ctx: Context) -> Outcome:
        # The provider is asked to collect no more. It may have done so already.
        collected = ctx.steps["collect"]
        reason = collected.get("reason") or collected.get("message") or "no payment within three days"
        return Outcome("regretted", reason=reason)

    stray = wait_for("paid", timeout="30d", on={"paid": "refund", "timeout": "end"})

    # If it fails for good, the checkout is FAILED until somebody calls RetryInstance: the money is never forgotten.
    @step(
        on={"refunded": "end"},
        join="any",
        retry=RetryPolicy(max_attempts=20, initial_backoff="1s", max_backoff="10m"),
    )
    async def refund(self, ctx: Context) -> Outcome:
        # The provider gets the key, so it refunds once.
        return Outcome("refunded", cents=ctx.input["cents"])


async def on_webhook(perdure: Runner, body: Mapping[str, Any]) -> int:
    """Take a webhook of the provider: pass it on, and return the HTTP status to answer with.

    ``perdure`` is a `perdure.AsyncClient`. Whatever else this raises (the server is away, say) should become a 500:
    then the provider sends the webhook again.
    """
    try:
        await perdure.resume(
            body["reference"], body["event"], body["data"], buffer=True, request_id=body["delivery_id"]
        )
    except InstanceNotFoundError:
        return 404
    except (InstanceEndedError, EventNeverAcceptedError):
        # The checkout has ended. Sending it again does not help, so this is a 200 too. A person looks at payments.
        if body["event"] == "paid":
            log.error("payment for a checkout that has ended: %s", body["reference"])
        return 200
    return 200
