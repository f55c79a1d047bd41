"""App of a server with hostile steps, each in a workflow of its own, and one step that behaves.

It has no `os._exit`, native crashes or code that holds the interpreter's lock, since a process cannot contain them.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from perdure import Context, Outcome, RetryPolicy, Workflow, step
from perdure_server.executors.in_process import InProcessExecutor

# A loop that stalls is given up after two seconds instead of ten.
assert InProcessExecutor.__init__.__kwdefaults__ is not None
InProcessExecutor.__init__.__kwdefaults__ |= {"ping_ms": 100, "stalled_pings": 20}

ONCE: Final = RetryPolicy(max_attempts=1)
BLOCK_S: Final = 2.5
TIMEOUT: Final = "300ms"


class Unheard(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit


def exit_(_: Context) -> Any:
    sys.exit("no more")


def interrupt(_: Context) -> Any:
    raise KeyboardInterrupt


def raise_base(_: Context) -> Any:
    raise Unheard("gone")


def raise_mute(_: Context) -> Any:
    raise Mute


def recurse(ctx: Context) -> Any:
    return recurse(ctx)


def give_much(_: Context) -> Any:
    return Outcome("done", text="x" * (20 << 20))


def give_many(_: Context) -> Any:
    return Outcome("done", numbers=list(range(300_000)))


def give_deep(_: Context) -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return Outcome("done", value=value)


def give_circle(_: Context) -> Any:
    value: list[Any] = []
    value.append(value)
    return Outcome("done", value=value)


def give_no_json(_: Context) -> Any:
    return Outcome("done", value=object(), lock=threading.Lock())


def give_nothing(_: Context) -> Any:
    return None


def give_another_event(_: Context) -> Any:
    return Outcome("never_declared")


def block(_: Context) -> Any:
    time.sleep(BLOCK_S)
    return Outcome("done")


def block_for_long(_: Context) -> Any:
    time.sleep(2 * BLOCK_S)
    return Outcome("done")


def flood_the_output(_: Context) -> Any:
    for _ in range(2_000):
        print("x" * 1_000)
    raise ValueError("y" * 1_000_000)


async def swallow_cancels(_: Context) -> Any:
    ends_at = time.monotonic() + BLOCK_S
    while time.monotonic() < ends_at:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
    return Outcome("done")


async def cancel_itself(_: Context) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def cancel_the_others(_: Context) -> Any:
    for task in asyncio.all_tasks():
        task.cancel()
    return Outcome("done")


async def stop_the_loop(_: Context) -> Any:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)
    return Outcome("never_declared")


async def exit_behind(_: Context) -> Any:
    asyncio.get_running_loop().call_soon(sys.exit)
    await asyncio.sleep(0.05)
    return Outcome("never_declared")


PLAIN: Final[dict[str, tuple[Callable[[Context], Any], str]]] = {
    "exit": (exit_, "SystemExit"),
    "interrupt": (interrupt, "KeyboardInterrupt"),
    "raise_base": (raise_base, "Unheard"),
    "raise_mute": (raise_mute, "Mute"),
    "recurse": (recurse, "RecursionError"),
    "give_much": (give_much, "OutputTooLarge"),
    "give_many": (give_many, "OutputTooLarge"),
    "give_deep": (give_deep, "OutputNotJson"),
    "give_circle": (give_circle, "OutputNotJson"),
    "give_no_json": (give_no_json, "OutputNotJson"),
    "give_nothing": (give_nothing, "InvalidOutcome"),
    "give_another_event": (give_another_event, "UndeclaredEvent"),
    "flood_the_output": (flood_the_output, "ValueError"),
}
"""Each hostile behaviour, and the resulting error of its instance. Each runs as a function and as a coroutine."""

BLOCKING: Final[dict[str, tuple[Callable[[Context], Any], str]]] = {
    "block_a_thread": (block, "AttemptTimeout"),
    "swallow_cancels": (swallow_cancels, "AttemptTimeout"),
    "cancel_itself": (cancel_itself, "CancelledError"),
    "stop_the_loop": (stop_the_loop, "UndeclaredEvent"),
    "exit_behind": (exit_behind, "UndeclaredEvent"),
}


def _workflow(name: str, body: Callable[[Context], Any]) -> type[Workflow]:
    async def coroutine(self: Workflow, ctx: Context) -> Any:
        found = body(ctx)
        return await found if asyncio.iscoroutine(found) else found

    def plain(self: Workflow, ctx: Context) -> Any:
        return body(ctx)

    is_coroutine = name.startswith("async_") or asyncio.iscoroutinefunction(body)
    work = step(on={"done": "end"}, retry=ONCE, attempt_timeout=TIMEOUT if body in TIMED else None)(
        coroutine if is_coroutine else plain
    )
    return type(Workflow)(name, (Workflow,), {"start": "work", "work": work}, name=name, version=1)


TIMED: Final = {block, swallow_cancels}

EXPECTED: Final = (
    {f"async_{name}": error for name, (_, error) in PLAIN.items()}
    | {f"plain_{name}": error for name, (_, error) in PLAIN.items()}
    | {name: error for name, (_, error) in BLOCKING.items()}
)
"""The error of each hostile workflow."""

for _name, (_body, _) in PLAIN.items():
    globals()[f"async_{_name}"] = _workflow(f"async_{_name}", _body)
    globals()[f"plain_{_name}"] = _workflow(f"plain_{_name}", _body)
for _name, (_body, _) in BLOCKING.items():
    globals()[_name] = _workflow(_name, _body)

async_block = _workflow("async_block_the_loop", block_for_long)
async_cancel_the_others = _workflow("async_cancel_the_others", cancel_the_others)


class Good(Workflow, name="good", version=1):
    start = "first"

    @step(
        on={"done": "second"}, retry=RetryPolicy(max_attempts=20, initial_backoff="50ms", max_backoff="200ms")
    )
    async def first(self, ctx: Context) -> Outcome:
        await asyncio.sleep(0.01)
        return Outcome("done")

    @step(on={"done": "end"}, retry=RetryPolicy(max_attempts=20, initial_backoff="50ms", max_backoff="200ms"))
    def second(self, ctx: Context) -> Outcome:
        return Outcome("done")
