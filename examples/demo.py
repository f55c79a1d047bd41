"""An order on a real server: parallel steps, an approval, a timer, and a `kill -9` in the middle.

    make demo

Starts `perdure serve examples/order.py` on an SQLite file, sends an order through it over gRPC, kills the server while
the order waits for an approval, and starts the server again on the same file. Exits with code 1 if the order does not
continue and ship.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

from order import OrderFlow
from perdure import AsyncClient, graph_of
from perdure.client.types import Instance, InstanceState

EXAMPLES: Final = Path(__file__).resolve().parent
SECONDS_MAX: Final = 60
"""Time limit of each part of the demo, in seconds."""

console = Console(highlight=False, soft_wrap=True)
start_time = time.monotonic()


class DemoError(Exception):
    """The order did not do what it should."""


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    console.print(f"[dim]{time.monotonic() - start_time:4.1f} s[/dim]  {text}")


class Server:
    """`perdure serve examples/order.py` in a separate process."""

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
        # The next start uses the same port, so the client reconnects without a new address.
        self.address = self._listen = ready.removeprefix("perdure listening on ")
        say(f"[bold]$ perdure serve examples/order.py[/bold]  # process {process.pid}, {self.address}")

    async def kill(self) -> None:
        """End the process without a signal handler and without flushing anything."""
        assert self._process is not None
        say(f"[bold red]$ kill -9 {self._process.pid}[/bold red]")
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Drain the process and wait until it ends."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            async with asyncio.timeout(SECONDS_MAX):
                await self._process.wait()


def drawing(events: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield the graph of the order, one line per level. ``events`` adds the event that each step ended with."""
    graph = graph_of(OrderFlow)
    levels: dict[str, int] = {}
    for ref in graph.order:
        levels[ref] = 1 + max((levels[source] for source in graph.predecessors[ref]), default=-1)
    for level in range(max(levels.values()) + 1):
        cells = []
        for ref in (ref for ref, depth in levels.items() if depth == level):
            if events is None:
                cells.append(ref)
            elif event := events.get(ref):
                cells.append(f"[green]✔ {escape(f'{ref}: {event}')}[/green]")
            else:
                cells.append(f"[dim]· {ref}[/dim]")
        yield f"        {'↓ ' if level else '  '}{'   '.join(cells)}"


async def until_waiting(client: AsyncClient, instance_id: str, step_ref: str) -> Instance:
    """Return the order as soon as ``step_ref`` waits in it."""
    async with asyncio.timeout(SECONDS_MAX):
        async for _ in client.watch_instance(instance_id):
            instance = await client.get_instance(instance_id)
            if any(
                s.step_ref == step_ref and s.state in ("WAITING", "SLEEPING") for s in instance.active_steps
            ):
                return instance
    raise DemoError(f"{instance_id} ended before {step_ref} waited")


async def ship_an_order(server: Server, client: AsyncClient) -> None:
    """Send an order from start to end, with a crash between."""
    say("This is the workflow. It charges a card and reserves the items in parallel:")
    for line in drawing():
        console.print(line)

    context = {"items": ["lamp"], "total_cents": 4900}
    started = await client.start_instance("order", context, instance_id="order-1", request_id="demo-order-1")
    say(f"[cyan]StartInstance[/cyan](order) -> {started.instance_id}")
    await until_waiting(client, "order-1", "reserve")
    await client.resume("order-1", "reserved", {"shelf": "A7"})
    say("[cyan]Resume[/cyan](order-1, reserved): the warehouse has the lamp")
    await until_waiting(client, "order-1", "approval")
    scheduled = await client.schedule_resume("order-1", "approval", 600_000)
    say(f"[cyan]ScheduleResume[/cyan](order-1, approval, 10 min) -> {scheduled.reference}")
    before = await client.get_instance("order-1")

    await server.kill()
    await server.start()
    after = await client.get_instance("order-1")
    timer = await client.get_timer(scheduled.reference)
    if (after.state, after.revision, after.outputs) != (before.state, before.revision, before.outputs):
        raise DemoError("the crash lost data")
    if timer.due_time != scheduled.due_time:
        raise DemoError("the crash changed a timer")
    say(f"order-1 is still {after.state} at revision {after.revision}, and its timer is still armed")
    again = await client.start_instance("order", context, instance_id="order-1", request_id="demo-order-1")
    if (again.instance_id, again.revision) != (started.instance_id, started.revision):
        raise DemoError("a repeated call took effect twice")

    await client.resume("order-1", "approved", {"by": "dana"})
    say("[cyan]Resume[/cyan](order-1, approved): the order now sleeps for 30 s")
    await until_waiting(client, "order-1", "cooldown")
    async for pending in client.list_timers(instance_id="order-1"):
        await client.fire_timer(pending.reference)
    say("[cyan]FireTimer[/cyan]: the demo does not wait that long")
    async with asyncio.timeout(SECONDS_MAX):
        ended = await client.wait_for_end("order-1")
    if ended.outputs["charge"] != before.outputs["charge"]:
        raise DemoError("the card was charged again")
    if ended.state is not InstanceState.COMPLETED or "ship" not in ended.outputs:
        raise DemoError(f"order-1 is {ended.state}, with the steps {sorted(ended.outputs)}")

    say(f"[bold green]order-1 is {ended.state}.[/bold green] One crash, nothing lost, charged once:")
    for line in drawing({result.step_ref: result.event for result in ended.step_results if result.event}):
        console.print(line)


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="perdure-demo-") as folder:
        server = Server(Path(folder))
        try:
            await server.start()
            async with AsyncClient(server.address) as client:
                await ship_an_order(server, client)
        except (DemoError, TimeoutError) as error:
            console.print(f"the demo failed: {str(error) or 'timeout'}", style="bold red")
            return 1
        finally:
            with suppress(ProcessLookupError):
                await server.stop()
    console.print(
        "Try next: [bold]. .venv/bin/activate && perdure serve --demo[/bold], and docs/getting-started/python.md"
    )
    return 0


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "120")
    sys.exit(asyncio.run(main()))
