"""`examples/polling.py` on the test kit."""

from __future__ import annotations

from datetime import timedelta

from perdure.client import facts
from perdure_server.testing import AttemptTimeout, WorkflowTest
from polling import NotReady, ReportFlow


async def test_a_report_is_polled_every_five_seconds_until_it_is_ready() -> None:
    async with WorkflowTest(ReportFlow) as t:
        report = await t.start({"month": "2026-05", "ready_after_polls": 4})
        began = t.now
        report.assert_state("RUNNING")  # it backs off until the next poll

        await t.advance("10s")
        report.assert_attempts("poll", 3)
        await t.advance("5s")

        report.assert_state("COMPLETED")
        report.assert_steps(order="ordered", poll="ready", deliver="delivered")
        assert [call.attempt for call in report.calls("poll")] == [1, 2, 3, 4]
        assert t.now - began == timedelta(seconds=15)
        assert report.outputs["deliver"] == {"mailed": "https://reports.example/2026-05"}


async def test_a_repeated_order_orders_one_report() -> None:
    async with WorkflowTest(ReportFlow) as t:
        t.script("order", ConnectionError("reset"), ConnectionError("reset"))
        report = await t.start({"month": "2026-05", "ready_after_polls": 1})
        await t.advance("1m")

        report.assert_state("COMPLETED")
        assert set(report.idempotency_keys["order"]) == {"report-1/order"}
        assert report.outputs["order"] == {"job": "job:report-1/order"}


async def test_after_ten_minutes_of_polling_we_apologize() -> None:
    async with WorkflowTest(ReportFlow) as t:
        t.script("poll", then=NotReady("not ready yet"))
        report = await t.start({"month": "2026-05"})

        await t.advance("594s")
        report.assert_state("RUNNING")  # it backs off until the next poll
        await t.advance("1s")

        report.assert_state("COMPLETED")
        report.assert_attempts("poll", 120)
        assert report.outputs["apologize"] == {"because": "not ready yet", "rejected": False}


async def test_a_rejected_report_is_polled_once() -> None:
    async with WorkflowTest(ReportFlow) as t:
        report = await t.start({"month": "1999-12"})

        report.assert_state("COMPLETED")
        report.assert_attempts("poll", 1)
        report.assert_steps(order="ordered", poll="error", apologize="apologized")
        assert report.outputs["apologize"]["rejected"]


async def test_a_poll_that_hangs_is_one_poll() -> None:
    async with WorkflowTest(ReportFlow) as t:
        t.script("poll", AttemptTimeout())
        report = await t.start({"month": "2026-05", "ready_after_polls": 1})

        assert report.assert_fact(facts.AttemptFailed).retrying
        await t.advance("5s")
        report.assert_state("COMPLETED")
