"""The lifecycle on Restate. Runs in .venv-bench: python peer_restate.py COUNT FOLDER

It runs Restate's server, a process with the handlers, and this process as the client. The handlers use the Python SDK,
so that all steps here are Python. The TypeScript SDK was not faster. Four partitions instead of 24 were faster on two
cores. Restate syncs its log before it responds, which is its default.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import hypercorn.asyncio
import hypercorn.config
import restate

from load import CALLERS, CONTEXT, PAYLOAD, WARM_UP, at_once, peer_report

lifecycle = restate.Workflow("Lifecycle")


async def prepare(order: dict[str, Any]) -> dict[str, Any]:
    return {"order": order["order"]}


async def conclude(answer: dict[str, Any]) -> dict[str, Any]:
    return {"amount": answer["amount"]}


@lifecycle.main()
async def run(ctx: restate.WorkflowContext, order: dict[str, Any]) -> dict[str, Any]:
    await ctx.run_typed("prepare", prepare, order=order)
    answer = await ctx.promise("answered").value()
    return await ctx.run_typed("conclude", conclude, answer=answer)


@lifecycle.handler()
async def answered(ctx: restate.WorkflowSharedContext, answer: dict[str, Any]) -> None:
    await ctx.promise("answered").resolve(answer)


def serve_handlers(port: int) -> None:
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    asyncio.run(hypercorn.asyncio.serve(restate.app([lifecycle]), config))


@asynccontextmanager
async def process(*command: str, **environment: str) -> Any:
    started = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        # Nothing of it is kept, and an orderly end would wait for connections that stay open.
        started.kill()
        await started.wait()


async def register(http: aiohttp.ClientSession, admin: str, handlers: str) -> None:
    """Tell the server of the handlers, as soon as both listen."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with http.post(f"{admin}/deployments", json={"uri": handlers}) as answer:
                    if answer.ok:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


async def measure(http: aiohttp.ClientSession, ingress: str, count: int) -> float:
    async def work() -> None:
        key = uuid.uuid4().hex
        async with http.post(f"{ingress}/Lifecycle/{key}/run/send", json=CONTEXT) as sent:
            sent.raise_for_status()
        async with http.post(f"{ingress}/Lifecycle/{key}/answered", json=PAYLOAD) as resolved:
            resolved.raise_for_status()
        async with http.get(f"{ingress}/restate/workflow/Lifecycle/{key}/attach") as ended:
            assert await ended.json() == {"amount": PAYLOAD["amount"]}

    await at_once(CALLERS, WARM_UP, work)
    return await at_once(CALLERS, count, work)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def find_server() -> str:
    """Return the server's program: npm's wrapper is a Node process that only passes it on."""
    modules = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "node_modules", "@restatedev")
    for name in sorted(os.listdir(modules)) if os.path.isdir(modules) else ():
        program = os.path.join(modules, name, "bin", "restate-server")
        if os.path.isfile(program) and os.access(program, os.X_OK):
            return program
    raise SystemExit("no restate-server: its npm package was not installed")


def version_of(program: str) -> str:
    with open(os.path.join(os.path.dirname(program), "..", "package.json"), encoding="utf-8") as text:
        version: str = json.load(text)["version"]
    return version


async def main(count: int, folder: str) -> None:
    program = find_server()
    ingress, admin, node, handlers = free_ports(4)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            process(
                *(program, "--no-logo"),
                RESTATE_BASE_DIR=folder,
                RESTATE_LISTEN_MODE="tcp",
                RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{ingress}",
                RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{admin}",
                RESTATE_BIND_ADDRESS=f"127.0.0.1:{node}",
                RESTATE_DEFAULT_NUM_PARTITIONS="4",
                RESTATE_DISABLE_TELEMETRY="true",
                RESTATE_LOG_FILTER="error",
            )
        )
        await stack.enter_async_context(process(sys.executable, __file__, "--handlers", str(handlers)))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CALLERS))
        )
        await register(http, f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{handlers}")
        seconds = await measure(http, f"http://127.0.0.1:{ingress}", count)
    peer_report(
        "restate", version_of(program), "RocksDB, log synced; 4 partitions; Python SDK", count, seconds
    )


if __name__ == "__main__":
    if sys.argv[1] == "--handlers":
        serve_handlers(int(sys.argv[2]))
    else:
        asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
