"""The main job, live: a real server, real orders, a `kill -9` in the middle, and nothing lost.

    make demo

Starts `perdure serve examples/order.py` on an SQLite file, drives five orders over gRPC, kills the server without
warning while they wait, starts it again on the same file, and sees each of them end as it should. Ends with exit code
0, or 1 with a word about what was not as promised.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from rich.console import Console

from perdure import AsyncClient
from perdure.client import facts
from perdure.client.facts import HistoryEntry
from perdure.client.types import Instance, InstanceState

EXAMPLES: Final = Path(__file__).resolve().parent
SECONDS_MAX: Final = 60
"""How long any one thing may take before the demo says that it failed."""

console = Console(highlight=False)
began = time.monotonic()


class DemoError(Exception):
    """Something was not as promised."""


def say(text: str, style: str = "") -> None:
    """Print a line with the seconds since the start."""
    console.print(f"[dim]{time.monotonic() - began:5.1f} s[/dim]  {text}", style=style)


class Server:
    """`perdure serve examples/order.py` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._database = f"sqlite:///{folder}/orders.db"
        self._log = folder / "server.log"
        self._listen = "127.0.0.1:0"
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""

    async def start(self) -> None:
        """Start the process and return when it listens."""
        command = (
            *(sys.executable, "-m", "perdure_server.cli", "serve", str(EXAMPLES / "order.py")),
            *("--database", self._database, "--listen", self._listen),
        )
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        self._process = process
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS_MAX):
            ready = (await process.stdout.readline()).decode().strip()
        if not ready.startswith("perdure listening on "):
            raise DemoError(f"the server did not start:\n{self._log.read_text()}")
        # The second start takes the same port, so that the clients need not be told.
        self.address = self._listen = ready.removeprefix("perdure listening on ")
        say(f"[bold]$ perdure serve examples/order.py[/bold]   pid {process.pid}, {ready}")

    async def kill(self) -> None:
        """End the process as a power cut would: no signal handler runs, nothing is flushed."""
        assert self._process is not None
        say(f"[bold red]$ kill -9 {self._process.pid}[/bold red]")
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Ask the process to end, and wait until it has."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            async with asyncio.timeout(SECONDS_MAX):
                await self._process.wait()


async def tell(client: AsyncClient, name: str, instance_id: str) -> None:
    """Print what happens to an order, from its first entry to its end, across the crash."""
    async for event in client.watch_instance(instance_id, after_revision=0):
        if isinstance(event, HistoryEntry):
            words = in_words(event.fact)
            if words:
                say(f"[cyan]{name:7}[/cyan] [dim]#{event.revision:<3}[/dim] {words}")


def in_words(fact: object) -> str:
    """Say a fact in a few words, or nothing where it is of no interest here."""
    match fact:
        case facts.AttemptStarted(step_ref=step, attempt=attempt):
            return f"{step} runs" if attempt == 1 else f"{step} runs, attempt {attempt}"
        case facts.StepSuspended(step_ref=step, events=events):
            return f"{step} is PENDING until {' or '.join(events)}"
        case facts.StepStarted(step_ref=step, events=events) if events:
            return f"{step} waits for {' or '.join(events)}"
        case facts.StepFinished(step_ref=step, event=event, targets=targets):
            return f"{step} ended: [bold]{event}[/bold] -> {', '.join(targets)}"
        case facts.TimerArmed(step_ref=step, delay=delay, client_requested=requested):
            why = " (ScheduleResume)" if requested else ""
            return f"timer for {step}: in {delay.total_seconds() if delay else 0:g} s{why}"
        case facts.TimerFired(step_ref=step, forced=forced):
            return f"timer of {step} fired{' by hand' if forced else ''}"
        case facts.StepSkipped(step_ref=step):
            return f"{step} is skipped: one branch can no longer arrive"
        case facts.InstanceCompleted():
            return "[bold green]COMPLETED[/bold green]"
        case facts.InstanceFailed(step_ref=step):
            return f"[bold red]FAILED[/bold red] in {step}"
        case _:
            return ""


async def until_waiting(client: AsyncClient, instance_id: str, step_ref: str) -> Instance:
    """Return the order as soon as ``step_ref`` waits in it."""
    async with asyncio.timeout(SECONDS_MAX):
        async for _ in client.watch_instance(instance_id):
            instance = await client.get_instance(instance_id)
            if any(s.step_ref == step_ref and s.state == "WAITING" for s in instance.active_steps):
                return instance
    raise DemoError(f"{instance_id} ended before {step_ref} waited")


def check(name: str, instance: Instance, *, finished: str, not_finished: str) -> None:
    """Hold an order that ended against what was promised."""
    if instance.state is not InstanceState.COMPLETED:
        raise DemoError(f"{name} is {instance.state}, not COMPLETED")
    if finished not in instance.outputs or not_finished in instance.outputs:
        raise DemoError(f"{name} went the wrong way: {sorted(instance.outputs)}")


async def orders(server: Server, client: AsyncClient) -> None:
    """The demo itself."""
    console.rule("five orders start; each charges and reserves in parallel")
    lamp = {"items": ["lamp"], "total_cents": 4900}
    names = {
        "lamp": (await client.start_instance("order", lamp)).instance_id,
        "late": (await client.start_instance("order", {**lamp, "items": ["late lamp"]})).instance_id,
        "soldout": (await client.start_instance("order", {**lamp, "items": ["rare lamp"]})).instance_id,
        "unpaid": (await client.start_instance("order", {**lamp, "card": "declined"})).instance_id,
        "empty": (await client.start_instance("order", {"items": []})).instance_id,
    }
    tellers = [asyncio.create_task(tell(client, name, id_)) for name, id_ in names.items()]
    for name in ("lamp", "late", "unpaid"):
        await until_waiting(client, names[name], "reserve")
        await client.resume(names[name], "reserved", {"shelf": "A7"})
    before = await until_waiting(client, names["late"], "approval")
    await until_waiting(client, names["lamp"], "approval")

    console.rule("no approval will come for the late order: give it two more seconds")
    scheduled = await client.schedule_resume(names["late"], "approval", 2_000)
    say(f"ScheduleResume answered with the reference {scheduled.reference}")

    console.rule("the server dies without a warning, and comes back on the same file")
    await server.kill()
    await server.start()
    after = await client.get_instance(before.instance_id)
    say(f"still there: {after.state}, revision {after.revision}, {len(after.outputs)} outputs")
    # The timer of the late order may have fired already: it can only have more.
    kept = {step: after.outputs.get(step) for step in before.outputs}
    if kept != before.outputs or after.revision < before.revision:
        raise DemoError("something was lost in the crash")

    console.rule("the warehouse never answers for the sold-out order: its hour is over")
    await until_waiting(client, names["soldout"], "reserve")
    async for timer in client.list_timers(instance_id=names["soldout"]):
        await client.fire_timer(timer.reference)

    console.rule("the approval comes in, over gRPC")
    await client.resume(names["lamp"], "approved", {"by": "dana"})
    async with asyncio.timeout(SECONDS_MAX):
        async for timer in client.list_timers(instance_id=names["lamp"]):
            say(f"{timer.step_ref} has 30 s to go: we fire its timer by hand (TimerService.FireTimer)")
            await client.fire_timer(timer.reference)
        await asyncio.gather(*tellers)
        ended = {name: await client.wait_for_end(id_) for name, id_ in names.items()}

    console.rule("how they ended")
    check("lamp", ended["lamp"], finished="ship", not_finished="escalate")
    check("late", ended["late"], finished="refund", not_finished="ship")
    check("soldout", ended["soldout"], finished="refund", not_finished="approval")
    check("unpaid", ended["unpaid"], finished="release", not_finished="ship")
    check("empty", ended["empty"], finished="validate", not_finished="charge")
    for name, instance in ended.items():
        steps = ", ".join(instance.outputs)
        say(f"[cyan]{name:7}[/cyan] {instance.state}  revision {instance.revision:<3} {steps}")


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="perdure-demo-") as folder:
        server = Server(Path(folder))
        try:
            await server.start()
            async with AsyncClient(server.address) as client:
                await orders(server, client)
        except (DemoError, TimeoutError) as error:
            console.print(f"the demo failed: {str(error) or 'something took too long'}", style="bold red")
            return 1
        finally:
            with suppress(ProcessLookupError):
                await server.stop()
    say("done: five orders, one crash, nothing lost, every charge shipped or refunded", style="bold green")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "120")
    sys.exit(asyncio.run(main()))
