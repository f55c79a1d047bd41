"""`examples/quotes.py` on the test kit: the booked carrier, and later quotes."""

from __future__ import annotations

import pytest

from perdure import errors
from perdure_server.testing import WorkflowTest
from quotes import FreightFlow


@pytest.mark.parametrize(("first", "second"), [("north", "south"), ("south", "north")])
async def test_the_first_quote_is_booked_and_the_other_has_no_effect(first: str, second: str) -> None:
    async with WorkflowTest(FreightFlow) as t:
        freight = await t.start({"to": "Oslo"})
        freight.assert_waiting("north", "south")

        await freight.resume("quoted", {"cents": 5200}, step_ref=first)
        await freight.resume("quoted", {"cents": 100}, step_ref=second)

        assert freight.outputs["book"] == {"carrier": first, "cents": 5200}
        assert len(freight.calls("book")) == 1
        await t.advance("1d")
        freight.assert_state("COMPLETED")
        assert freight.outputs["follow_up"] == {"question": f"How was {first}?"}


async def test_after_half_an_hour_our_own_van_is_booked() -> None:
    async with WorkflowTest(FreightFlow) as t:
        freight = await t.start()

        await t.advance("29m")
        freight.assert_not_begun("book")
        await t.advance("1m")

        assert freight.outputs["book"]["carrier"] == "our own van"
        freight.assert_waiting("north", "south")


async def test_a_late_quote_books_nothing_more() -> None:
    async with WorkflowTest(FreightFlow) as t:
        freight = await t.start()
        await t.advance("30m")
        await freight.resume("quoted", {"cents": 1}, step_ref="north")
        await t.advance("2d")

        freight.assert_state("COMPLETED")
        freight.assert_steps(
            ask="asked",
            north="quoted",
            south="timeout",
            patience="elapsed",
            book="booked",
            a_day_later="elapsed",
            follow_up="asked",
        )
        assert freight.outputs["book"]["carrier"] == "our own van"


async def test_a_quote_must_name_its_carrier() -> None:
    async with WorkflowTest(FreightFlow) as t:
        freight = await t.start()

        with pytest.raises(errors.AmbiguousEventError) as caught:
            await freight.resume("quoted", {"cents": 1})
        assert caught.value.step_refs == ("north", "south")


async def test_a_retried_booking_sees_the_same_quote() -> None:
    async with WorkflowTest(FreightFlow) as t:
        t.script("book", ConnectionError("the carrier's system is down"))
        freight = await t.start()
        await freight.resume("quoted", {"cents": 5200}, step_ref="south")
        await freight.resume("quoted", {"cents": 4100}, step_ref="north")

        await t.advance("1s")

        assert [set(call.context.steps) for call in freight.calls("book")] == [{"ask", "south"}] * 2
        assert freight.outputs["book"] == {"carrier": "south", "cents": 5200}
