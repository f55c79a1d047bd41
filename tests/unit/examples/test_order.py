"""`examples/order.py` on the test kit: the path of each order, with timeouts and failures."""

from __future__ import annotations

from datetime import timedelta

from order import OrderFlow
from perdure import Outcome, StepError
from perdure.client import facts
from perdure_server.testing import AttemptTimeout, FailAfter, InstanceHandle, WorkflowTest

LAMP = {"items": ["lamp"], "total_cents": 4900}


async def approved(t: WorkflowTest) -> InstanceHandle:
    """Start an order, reserve it and approve it. It then cools down."""
    order = await t.start(LAMP)
    await order.resume("reserved", {"shelf": "A7"})
    order.assert_waiting("approval")
    await order.resume("approved", {"by": "dana"})
    return order


async def test_an_approved_order_cools_down_and_ships() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await approved(t)
        order.assert_state("WAITING")
        order.assert_not_begun("ship")

        await t.advance("30s")

        order.assert_state("COMPLETED")
        order.assert_steps(
            validate="valid",
            charge="charged",
            reserve="reserved",
            approval="approved",
            cooldown="elapsed",
            ship="shipped",
        )
        order.assert_order("validate", "charge", "approval", "cooldown", "ship")
        order.assert_order("reserve", "approval")
        assert order.outputs["charge"] == {"payment_id": "pay:order-1/charge", "cents": 4900}
        assert order.outputs["ship"] == {"parcel": "parcel:order-1/ship", "item_count": 1}


async def test_an_order_without_items_is_invalid_and_not_charged() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start({"items": []})

        order.assert_state("COMPLETED")
        order.assert_steps(validate="invalid")
        assert order.calls("charge") == []


async def test_a_declined_order_is_released_and_never_ships() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP | {"card": "declined"})
        order.assert_steps(validate="valid", charge="declined", release="released")
        assert order.outputs["release"] == {"reason": "the bank declined the card"}

        await order.resume("reserved")
        await t.advance("30d")

        order.assert_state("COMPLETED")
        order.assert_skipped("approval")
        order.assert_not_begun("approval", "cooldown", "ship", "refund", "escalate", "sold_out")


async def test_an_unknown_card_fails_the_order_at_once() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP | {"card": "unknown"})

        order.assert_failed("charge", type="StepError", message="no such card")
        order.assert_attempts("charge", 1)


async def test_an_order_without_a_response_is_refunded_after_a_day() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP)
        await order.resume("reserved")

        await t.advance("23h")
        order.assert_waiting("approval")
        await t.advance("1h")

        order.assert_state("COMPLETED")
        order.assert_order("approval", "escalate", "refund")
        assert order.outputs["refund"] == {"payment_id": "pay:order-1/charge"}
        order.assert_not_begun("ship")


async def test_schedule_resume_shortens_the_approval() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP)
        await order.resume("reserved")
        await order.schedule_resume("approval", "10m")

        await t.advance("10m")

        assert order.assert_fact(facts.TimerFired, step_ref="approval").used
        order.assert_order("approval", "escalate")


async def test_a_rejected_order_is_refunded_with_the_payment_that_was_made() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP)
        await order.resume("reserved")
        await order.resume("rejected", {"why": "out of range"})

        order.assert_state("COMPLETED")
        order.assert_steps(
            validate="valid", charge="charged", reserve="reserved", approval="rejected", refund="refunded"
        )
        assert order.outputs["refund"] == {"payment_id": "pay:order-1/charge"}


async def test_a_charged_order_whose_reservation_times_out_is_refunded() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP)

        await t.advance("59m")
        order.assert_waiting("reserve")
        await t.advance("1m")

        order.assert_state("COMPLETED")
        order.assert_steps(
            validate="valid", charge="charged", reserve="error", sold_out="notified", refund="refunded"
        )
        assert order.outputs["refund"] == {"payment_id": "pay:order-1/charge"}
        order.assert_skipped("approval")


async def test_a_reservation_that_fails_before_the_charge_refunds_the_charge() -> None:
    async with WorkflowTest(OrderFlow) as t:
        t.script("reserve", StepError("no such item", retryable=False))
        t.script("charge", ConnectionError("the bank is away"))
        order = await t.start(LAMP)
        order.assert_not_begun("sold_out", "refund")

        await t.advance("1s")

        order.assert_state("COMPLETED")
        order.assert_order("charge", "sold_out", "refund")
        assert order.outputs["refund"] == {"payment_id": "pay:order-1/charge"}


async def test_a_declined_order_whose_reservation_times_out_refunds_nothing() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP | {"card": "declined"})
        await t.advance("1h")

        order.assert_state("COMPLETED")
        order.assert_skipped("sold_out")
        order.assert_not_begun("approval", "refund")


async def test_a_parcel_that_cannot_be_sent_is_refunded() -> None:
    async with WorkflowTest(OrderFlow) as t:
        t.script("ship", then=StepError("no driver"))
        order = await approved(t)
        await t.advance("1h")

        order.assert_state("COMPLETED")
        order.assert_order("ship", "refund")


async def test_a_refund_that_fails_can_be_retried() -> None:
    async with WorkflowTest(OrderFlow) as t:
        t.script("refund", StepError("account closed", retryable=False))
        order = await t.start(LAMP)
        await t.advance("1h")
        order.assert_failed("refund", message="account closed")

        await order.retry()

        order.assert_state("COMPLETED")
        assert order.outputs["refund"] == {"payment_id": "pay:order-1/charge"}


async def test_an_early_approval_is_kept_for_its_step() -> None:
    async with WorkflowTest(OrderFlow) as t:
        order = await t.start(LAMP)
        await order.resume("approved", {"by": "dana"}, buffer=True)

        await order.resume("reserved")

        assert order.outputs["approval"] == {"by": "dana"}
        await t.advance("30s")
        order.assert_state("COMPLETED")


async def test_a_charge_is_retried_with_longer_pauses_and_one_key() -> None:
    async with WorkflowTest(OrderFlow) as t:
        t.script(
            "charge",
            ConnectionError("the bank is away"),
            AttemptTimeout(),
            FailAfter(ConnectionError("the bank took it, but its answer was lost")),
        )
        order = await t.start(LAMP)
        pauses = [await t.advance_to_next_timer() for _ in range(3)]

        assert pauses == [timedelta(milliseconds=ms) for ms in (200, 400, 800)]
        assert order.idempotency_keys["charge"] == ["order-1/charge"] * 4
        await order.resume("reserved")
        order.assert_waiting("approval")


async def test_an_order_that_failed_can_be_retried() -> None:
    async with WorkflowTest(OrderFlow) as t:
        t.script("charge", then=StepError("the bank is away"))
        order = await t.start(LAMP)
        await t.advance("1m")
        order.assert_failed("charge", message="away")
        order.assert_attempts("charge", 5)

        t.script("charge", Outcome("charged", payment_id="by hand"))
        await order.retry()
        await order.resume("reserved")

        order.assert_waiting("approval")
        assert order.outputs["charge"] == {"payment_id": "by hand"}
