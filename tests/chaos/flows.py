"""Workflows of the chaos rounds: small graphs that use every rule of the engine within a second or two.

The step's token, the attempt and the salt of the round decide if an attempt fails and which event a choice returns, so
both are the same after every crash. Each output names its attempt and token, so that the checker knows which attempt's
result was counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Final

from chaos.step_ledger import note
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

FAST: Final = RetryPolicy(max_attempts=8, initial_backoff="5ms", max_backoff="40ms")

LONG_MS: Final = 3_600_000
"""Timers that are due this much later are nothing to wait for."""


class Deliberate(StepError):
    """A failure on purpose."""


def chance(ctx: Context, salt: str, *, per_attempt: bool = True) -> float:
    """Return a number in [0, 1) that hangs on the step (and its attempt)."""
    key = f"{ctx.idempotency_key}|{ctx.attempt if per_attempt else 0}|{salt}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) / 2**32


def done(ctx: Context, event: str) -> Outcome:
    return Outcome(event, attempt=ctx.attempt, token=ctx.idempotency_key)


def stumble(ctx: Context, share: float) -> None:
    """Fail this attempt on purpose in ``share`` of the cases."""
    if chance(ctx, "stumble") < share:
        raise Deliberate("on purpose", retryable=True)


class Fan(Workflow, name="chaos_fan", version=1):
    """Three branches; an `any` join, an `all` join that may be skipped, a wait that may run out."""

    start = "split"

    @step(on={"forked": ["left", "right", "third"]}, retry=FAST)
    async def split(self, ctx: Context) -> Outcome:
        note(ctx)
        stumble(ctx, 0.1)
        return done(ctx, "forked")

    @step(on={"arrived": ["first", "meeting"], "error": ["first", "meeting"]}, retry=FAST)
    async def left(self, ctx: Context) -> Outcome:
        note(ctx)
        stumble(ctx, 0.4)
        await asyncio.sleep(0.01 * chance(ctx, "pause"))
        return done(ctx, "arrived")

    @step(on={"arrived": ["first", "meeting"]}, retry=FAST)
    def right(self, ctx: Context) -> Outcome:
        note(ctx)
        time.sleep(0.01 * chance(ctx, "pause"))
        return done(ctx, "arrived")

    @step(on={"on": "meeting", "off": "end"}, retry=FAST)
    async def third(self, ctx: Context) -> Outcome:
        note(ctx)
        return done(ctx, "on" if chance(ctx, "way", per_attempt=False) < 0.8 else "off")

    @step(on={"noted": "end"}, join="any", retry=FAST)
    async def first(self, ctx: Context) -> Outcome:
        note(ctx)
        stumble(ctx, 0.3)
        return done(ctx, "noted")

    meeting = wait_for(
        "nod", "nay", timeout="700ms", join="all", on={"nod": "pause", "nay": "end", "timeout": "late"}
    )
    pause = sleep("30ms", then="last")

    @step(on={"closed": "end"}, join="auto", retry=FAST)
    async def last(self, ctx: Context) -> Outcome:
        note(ctx)
        return done(ctx, "closed")

    @step(on={"noted": "end"}, retry=FAST)
    async def late(self, ctx: Context) -> Outcome:
        note(ctx)
        return done(ctx, "noted")


class Choice(Workflow, name="chaos_choice", version=1):
    """An exclusive choice that merges again, then three waits in a row that take the same event: the inbox's order."""

    start = "choose"

    @step(on={"a": "nap", "b": "work", "both": ["nap", "work"]}, retry=FAST)
    async def choose(self, ctx: Context) -> Outcome:
        note(ctx)
        stumble(ctx, 0.2)
        way = chance(ctx, "way", per_attempt=False)
        return done(ctx, "a" if way < 0.3 else "b" if way < 0.6 else "both")

    nap = sleep("60ms", then="one")

    @step(
        on={"worked": "one", "error": "one"},
        retry=RetryPolicy(max_attempts=2, initial_backoff="10ms", max_backoff="10ms"),
    )
    async def work(self, ctx: Context) -> Outcome:
        note(ctx)
        stumble(ctx, 0.5)
        return done(ctx, "worked")

    one = wait_for("nod", "go", timeout="1h", join="auto", on={"nod": "two", "go": "two", "timeout": "end"})
    two = wait_for("nod", timeout="1h", on={"nod": "three", "timeout": "end"})
    three = wait_for("nod", "stop", timeout="900ms", on={"nod": "end", "stop": "end", "timeout": "rest"})
    rest = sleep("20ms", then="end")


class Ask(Workflow, name="chaos_ask", version=1):
    """Tasks that return SUSPEND, side by side, for the same event: early answers, and ambiguous ones."""

    start = "prepare"

    @step(on={"ready": ["ask", "beg"]}, retry=FAST)
    def prepare(self, ctx: Context) -> Outcome:
        note(ctx)
        return done(ctx, "ready")

    @step(
        on={"answer": "tell", "nod": "tell", "timeout": "tell"},
        awaits={"answer", "nod"},
        wait_timeout="800ms",
        retry=FAST,
    )
    async def ask(self, ctx: Context) -> Suspend:
        note(ctx)
        stumble(ctx, 0.4)
        return SUSPEND

    @step(
        on={"answer": "tell", "timeout": "tell", "given": "tell"},
        awaits={"answer"},
        wait_timeout="1h",
        retry=FAST,
    )
    async def beg(self, ctx: Context) -> Outcome | Suspend:
        note(ctx)
        await asyncio.sleep(0.03 * chance(ctx, "pause"))
        return done(ctx, "given") if chance(ctx, "luck", per_attempt=False) < 0.2 else SUSPEND

    @step(on={"told": "end"}, join="auto", retry=FAST)
    async def tell(self, ctx: Context) -> Outcome:
        note(ctx)
        stumble(ctx, 0.2)
        return done(ctx, "told")


class Brittle(Workflow, name="chaos_brittle", version=1):
    """Fails for good until it has been retried: with interrupted waits, sleeps and backoffs as well."""

    start = "begin"

    @step(on={"begun": ["crack", "wait", "doze", "limp"]}, retry=FAST)
    async def begin(self, ctx: Context) -> Outcome:
        note(ctx)
        return done(ctx, "begun")

    @step(on={"held": "over"}, retry=FAST)
    async def crack(self, ctx: Context) -> Outcome:
        note(ctx)
        await asyncio.sleep(0.02)
        if chance(ctx, "crack") < 0.6:
            raise Deliberate("cracked", retryable=False)
        return done(ctx, "held")

    wait = wait_for("nod", timeout="1s", on={"nod": "over", "timeout": "over"})
    doze = sleep("150ms", then="over")

    @step(
        on={"walked": "over", "error": "over"},
        retry=RetryPolicy(max_attempts=4, initial_backoff="20ms", max_backoff="80ms"),
    )
    def limp(self, ctx: Context) -> Outcome:
        note(ctx)
        stumble(ctx, 0.5)
        return done(ctx, "walked")

    @step(on={"finished": "end"}, join="all", retry=FAST)
    async def over(self, ctx: Context) -> Outcome:
        note(ctx)
        return done(ctx, "finished")


class Slow(Workflow, name="chaos_slow", version=1):
    """Attempts that run out of time and finish all the same, in a thread and on the loop: results that come late."""

    start = "drag"

    @step(on={"dragged": "creep", "timeout": "creep"}, attempt_timeout="60ms", retry=FAST)
    def drag(self, ctx: Context) -> Outcome:
        note(ctx)
        time.sleep(0.1 if chance(ctx, "slow") < 0.5 else 0.01)
        return done(ctx, "dragged")

    @step(on={"crept": "end", "timeout": "end", "error": "end"}, attempt_timeout="60ms", retry=FAST)
    async def creep(self, ctx: Context) -> Outcome:
        note(ctx)
        await asyncio.sleep(0.1 if chance(ctx, "slow") < 0.4 else 0.01)
        return done(ctx, "crept")


FLOWS: Final = (Fan, Choice, Ask, Brittle, Slow)

EVENTS_OF: Final = {
    "chaos_fan": ("nod", "nay"),
    "chaos_choice": ("nod", "nod", "nod", "go", "stop"),
    "chaos_ask": ("answer", "answer", "nod"),
    "chaos_brittle": ("nod",),
    "chaos_slow": ("nod",),
}
STEPS_OF: Final = {flow.name: tuple(flow.__graph__.steps) for flow in FLOWS}
