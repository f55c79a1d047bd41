"""A payment that a provider confirms by webhook: after the request, during the request, or before the request.

    perdure serve examples/webhook.py
    perdure start checkout --context '{"cents": 4900}' --instance-id checkout-1
    perdure resume checkout-1 paid --payload '{"by": "card"}'                  # the webhook, in time
    perdure start checkout --context '{"cents": 900, "slow": true}' --instance-id checkout-2
    perdure resume checkout-2 paid --payload '{"by": "card"}' --buffer         # the webhook, too early

`collect` calls the provider and returns SUSPEND. Its code is done, and the step waits, for days if necessary, until an
external event arrives. Webhooks can arrive at other times:

- Before the response of the call that caused it. The step still runs, and the event is kept for it.
- Before the step has started, because the customer paid with an older link. ``buffer`` keeps the event.
- Several times, because providers repeat a webhook until they get a 200. Its ID makes the repeats harmless.

`on_webhook` below is all that a web handler has to do.

A payment can also arrive when nothing will be shipped any more. `stray` waits for it and `refund` returns it, so every
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
            await asyncio.sleep(10)  # a slow fraud check
        return Outcome("clean" if ctx.input["cents"] < 1_000_000 else "suspicious")

    @step(
        on={"paid": "ship", "refused": "regret", "timeout": "regret", "error": "regret"},
        awaits={"paid", "refused"},
        wait_timeout="3d",
        retry=RetryPolicy(max_attempts=8, initial_backoff="1s", max_backoff="5m"),
    )
    async def collect(self, ctx: Context) -> Suspend:
        # Request ctx.input["cents"] from the provider here. Pass the ID of the instance as the reference, which the
        # webhook returns, and the idempotency key, so that a retry requests the payment once.
        return SUSPEND

    @step(on={"shipped": "end", "error": "refund"})
    async def ship(self, ctx: Context) -> Outcome:
        # The payload of the webhook is the output of the step that waited for it.
        return Outcome("shipped", paid_by=ctx.steps["collect"]["by"])

    @step(on={"regretted": "stray", "error": "stray"})
    async def regret(self, ctx: Context) -> Outcome:
        # Cancel the request at the provider here. The payment might already have been collected.
        collected = ctx.steps["collect"]
        reason = collected.get("reason") or collected.get("message") or "no payment within three days"
        return Outcome("regretted", reason=reason)

    stray = wait_for("paid", timeout="30d", on={"paid": "refund", "timeout": "end"})

    # If every attempt fails, the checkout is FAILED until RetryInstance is called, so the refund is not lost.
    @step(
        on={"refunded": "end"},
        join="any",
        retry=RetryPolicy(max_attempts=20, initial_backoff="1s", max_backoff="10m"),
    )
    async def refund(self, ctx: Context) -> Outcome:
        # Pass the key to the provider, so that it refunds once.
        return Outcome("refunded", cents=ctx.input["cents"])


async def on_webhook(perdure: Runner, body: Mapping[str, Any]) -> int:
    """Deliver a webhook of the provider, and return the HTTP status of the response.

    ``perdure`` is a `perdure.AsyncClient`. Respond with status 500 to all other exceptions, for example if the server
    is not available. The provider then sends the webhook again.
    """
    try:
        await perdure.resume(
            body["reference"], body["event"], body["data"], buffer=True, request_id=body["delivery_id"]
        )
    except InstanceNotFoundError:
        return 404
    except (InstanceEndedError, EventNeverAcceptedError):
        # The checkout has ended, and a repeat does not help, so the status is 200. A person checks such payments.
        if body["event"] == "paid":
            log.error("payment for an ended checkout: %s", body["reference"])
        return 200
    return 200
