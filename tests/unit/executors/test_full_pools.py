"""Pools that stay full: logged once per period with the steps that hold the slots, and once at its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from perdure import Context, Outcome
from perdure_server.executors import full_pools
from perdure_server.executors.full_pools import FULL_SECONDS, FullPools, Holder
from support.executor_fixture import ExecutorFixture

FULL = "step pool is full, steps wait for a slot"
FREE = "step pool has free slots again"


class Clock:
    """Pools of four slots, observed four times a second of a clock that the test moves."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.records = caplog.records
        self.now = 1_000.0
        self.pools = FullPools()
        self.holders: list[Holder] = [("order", 1, "charge")] * 3 + [("report", 2, "poll")]

    def run(self, seconds: float, used: int = 4, pool: str = "sync") -> None:
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            self.pools.observe(self.now, pool, size=4, used=used, holders=lambda: self.holders)

    def said(self) -> list[str]:
        return [record.getMessage() for record in self.records]


def test_a_full_pool_is_logged_once_per_period_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock(caplog)
    clock.run(FULL_SECONDS)
    assert clock.said() == []

    clock.run(1)
    assert clock.said() == [FULL]
    fields: dict[str, Any] = vars(clock.records[0])
    assert (fields["pool"], fields["slots"], fields["seconds"]) == ("sync", 4, 60)
    assert fields["steps"] == "order v1 charge: 3, report v2 poll: 1"

    clock.run(3 * FULL_SECONDS)
    assert clock.said() == [FULL] * 4

    clock.run(1, used=3)
    assert clock.said() == [FULL] * 4 + [FREE]


def test_a_pool_that_is_full_repeatedly_but_briefly_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock(caplog)
    for _ in range(10):
        clock.run(FULL_SECONDS - 1)
        clock.run(0.25, used=3)

    assert clock.said() == []


def test_each_pool_has_its_own_period(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(caplog)
    clock.run(FULL_SECONDS / 2)
    clock.run(FULL_SECONDS / 2, pool="async")
    clock.run(1)

    assert [vars(record)["pool"] for record in clock.records] == ["sync"]


def test_a_pool_without_any_slot_is_full(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pools = FullPools()
    for now in (0.0, FULL_SECONDS):
        pools.observe(now, "sync", size=0, used=0, holders=list)

    assert vars(caplog.records[0])["steps"] == ""


def test_many_holders_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(caplog)
    clock.holders = [("w", 1, f"s{number}") for number in range(8)]
    clock.run(FULL_SECONDS + 1)

    assert (
        vars(clock.records[0])["steps"]
        == "w v1 s0: 1, w v1 s1: 1, w v1 s2: 1, w v1 s3: 1, w v1 s4: 1, and 3 more"
    )


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_executor_names_the_steps_that_hold_its_pools(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(full_pools, "FULL_SECONDS", 0.0)
    house = ExecutorFixture(max_async_steps=2, max_sync_steps=2, ping_ms=10)
    release = threading.Event()

    @house
    def blocking(_ctx: Context) -> Outcome:
        release.wait(30)
        return Outcome("done")

    @house
    async def waiting(_ctx: Context) -> Outcome:
        import asyncio

        await asyncio.to_thread(release.wait, 30)
        return Outcome("done")

    step_ref = {"sync": "blocking", "async": "waiting"}[kind]

    def said(text: str) -> Iterable[logging.LogRecord]:
        return [r for r in caplog.records if r.getMessage() == text and vars(r)["pool"] == kind]

    async with house.open() as table:
        for number in range(2):
            assert table.grant(f"i{number}", step_ref)
        await table.until_true(lambda: bool(said(FULL)))
        assert vars(next(iter(said(FULL))))["steps"] == f"w v1 {step_ref}: 2"
        release.set()
        await table.until_true(lambda: bool(said(FREE)))
