"""`examples/webhook.py` on the test kit: a webhook in time, too early, during the call, twice, and too late."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import SUSPEND, Context, Outcome, StepError, Suspend
from perdure.client import facts
from perdure_server.testing import WorkflowTest
from webhook import CheckoutFlow, on_webhook


def paid(reference: str, delivery_id: str = "d-1", **data: Any) -> dict[str, Any]:
    """Body of a webhook."""
    return {
        "reference": reference,
        "event": "paid",
        "delivery_id": delivery_id,
        "data": {"by": "card"} | data,
    }


async def test_a_webhook_in_time_ships() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        checkout = await t.start({"cents": 4900})
        checkout.assert_waiting("collect")

        assert await on_webhook(t.client, paid(checkout.id)) == 200
        await t.settle()

        checkout.assert_state("COMPLETED")
        checkout.assert_steps(screen="clean", collect="paid", ship="shipped")
        assert checkout.outputs["ship"] == {"paid_by": "card"}


async def test_a_webhook_during_the_request_is_not_lost() -> None:
    async with WorkflowTest(CheckoutFlow) as t:

        async def provider_is_quick(ctx: Context) -> Suspend:
            assert await on_webhook(t.client, paid(ctx.instance_id)) == 200
            return SUSPEND

        t.script("collect", provider_is_quick)
        checkout = await t.start({"cents": 4900})

        checkout.assert_state("COMPLETED")
        assert checkout.assert_fact(facts.EventBuffered).step_ref == "collect"


async def test_a_webhook_before_the_request_waits_in_the_inbox() -> None:
    async with WorkflowTest(CheckoutFlow) as t:

        async def paid_from_an_older_link(ctx: Context) -> Outcome:
            assert await on_webhook(t.client, paid(ctx.instance_id)) == 200
            return Outcome("clean")

        t.script("screen", paid_from_an_older_link)
        checkout = await t.start({"cents": 4900})

        checkout.assert_steps(screen="clean", collect="paid", ship="shipped")


async def test_a_webhook_that_is_delivered_twice_counts_once() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        checkout = await t.start({"cents": 4900})

        statuses = [await on_webhook(t.client, paid(checkout.id)) for _ in range(3)]
        await t.settle()

        assert statuses == [200, 200, 200]
        assert len(checkout.calls("ship")) == 1
        assert checkout.assert_fact(facts.InstanceCompleted).unconsumed == ()


async def test_a_second_payment_after_the_end_changes_nothing() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        checkout = await t.start({"cents": 4900})
        await checkout.resume("paid", {"by": "card"})
        history = checkout.history

        assert await on_webhook(t.client, paid(checkout.id, "d-2")) == 200

        await t.settle()
        assert checkout.history == history


@pytest.mark.parametrize(
    ("event", "data", "reason"),
    [("refused", {"reason": "no money"}, "no money"), (None, None, "no payment within three days")],
)
async def test_without_a_payment_we_regret(event: str | None, data: object, reason: str) -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        checkout = await t.start({"cents": 4900})
        if event:
            await checkout.resume(event, data)
        await t.advance("3d")
        checkout.assert_waiting("stray")
        await t.advance("30d")

        checkout.assert_state("COMPLETED")
        checkout.assert_not_begun("ship", "refund")
        assert checkout.outputs["regret"] == {"reason": reason}


async def test_a_late_payment_is_refunded() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        checkout = await t.start({"cents": 4900})
        await t.advance("3d")

        assert await on_webhook(t.client, paid(checkout.id)) == 200
        await t.settle()

        checkout.assert_state("COMPLETED")
        checkout.assert_not_begun("ship")
        assert checkout.outputs["refund"] == {"cents": 4900}


async def test_a_payment_that_cannot_be_shipped_is_refunded() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        t.script("ship", then=StepError("no driver"))
        checkout = await t.start({"cents": 4900})
        await on_webhook(t.client, paid(checkout.id))
        await t.advance("1h")

        checkout.assert_state("COMPLETED")
        checkout.assert_order("ship", "refund")


async def test_a_payment_after_a_failed_request_is_refunded() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        t.script("collect", StepError("unknown currency", retryable=False))
        checkout = await t.start({"cents": 4900})
        assert checkout.outputs["regret"] == {"reason": "unknown currency"}

        await on_webhook(t.client, paid(checkout.id))
        await t.settle()

        checkout.assert_order("regret", "refund")


async def test_a_webhook_for_an_unknown_checkout_is_a_404() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        assert await on_webhook(t.client, paid("checkout-99")) == 404


async def test_a_suspicious_checkout_requests_no_payment() -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        checkout = await t.start({"cents": 1_000_000})

        assert checkout.calls("collect") == []
        await t.advance("30d")
        checkout.assert_state("COMPLETED")


async def test_a_suspicious_checkout_refunds_a_payment_from_an_older_link() -> None:
    async with WorkflowTest(CheckoutFlow) as t:

        async def paid_from_an_older_link(ctx: Context) -> Outcome:
            assert await on_webhook(t.client, paid(ctx.instance_id)) == 200
            return Outcome("suspicious")

        t.script("screen", paid_from_an_older_link)
        checkout = await t.start({"cents": 1_000_000})

        checkout.assert_state("COMPLETED")
        checkout.assert_steps(screen="suspicious", stray="paid", refund="refunded")


async def test_a_payment_after_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with WorkflowTest(CheckoutFlow) as t:
        checkout = await t.start({"cents": 4900})
        await t.advance("40d")

        assert await on_webhook(t.client, paid(checkout.id)) == 200

    assert f"payment for an ended checkout: {checkout.id}" in caplog.text
