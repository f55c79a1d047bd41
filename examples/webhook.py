"""A payment that a provider confirms by webhook: after the step asked for it, while it asks, or before it began to.

    perdure serve examples/webhook.py
    perdure start checkout --context '{"cents": 4900}' --instance-id checkout-1
    perdure resume checkout-1 paid --payload '{"by": "card"}'                  # the webhook, in time
    perdure start checkout --context '{"cents": 900, "slow": true}' --instance-id checkout-2
    perdure resume checkout-2 paid --payload '{"by": "card"}' --buffer         # the webhook, before anybody waits

`collect` asks the provider and returns PENDING: its code is done, and the step waits, for days if need be, until an
event comes from outside. A webhook knows nothing of that. It may overtake the answer of the very call that caused
it; then the step still runs, and the event is kept for it. It may come before the step has begun (the customer paid
from an older link); then ``buffer`` keeps it. And providers send webhooks again until they see a 200, so each
carries an id that makes the repetition harmless. `on_webhook` below is all that a web handler has to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from perdure import PENDING, Context, Outcome, Pending, Retry, Runner, Workflow, step
from perdure.errors import EventNeverAcceptedError, InstanceNotFoundError, InstanceTerminalError


class CheckoutFlow(Workflow, name="checkout", version=1):
    start = "screen"

    @step(on={"clean": "collect", "suspicious": "end"})
    async def screen(self, ctx: Context) -> Outcome:
        if ctx.initial.get("slow"):
            await asyncio.sleep(10)  # a fraud check that thinks for a while
        return Outcome("clean" if ctx.initial["cents"] < 1_000_000 else "suspicious")

    @step(
        on={"paid": "ship", "refused": "regret", "timeout": "regret"},
        awaits={"paid", "refused"},
        wait_timeout="3d",
        retry=Retry(max_attempts=8, initial="1s", max="5m"),
    )
    async def collect(self, ctx: Context) -> Pending:
        # The provider is asked to collect ctx.initial["cents"] here. It gets the instance's id as its reference,
        # which comes back in the webhook, and the idempotency key, so that a retry asks for nothing twice.
        return PENDING

    @step(on={"shipped": "end"})
    async def ship(self, ctx: Context) -> Outcome:
        # What the webhook brought is the output of the step that waited for it.
        return Outcome("shipped", paid_by=ctx.steps["collect"]["by"])

    @step(on={"regretted": "end"})
    async def regret(self, ctx: Context) -> Outcome:
        return Outcome("regretted", reason=ctx.steps["collect"].get("reason", "no payment within three days"))


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
    except (InstanceTerminalError, EventNeverAcceptedError):
        # The checkout went on without it. To send it again would not help: that is a 200 too.
        return 200
    return 200
