"""Environment of a client's scenarios: a server and its file, a TCP proxy, a fault proxy, and a server with TLS.

Each part starts on first use. Scenarios share all of them, so each scenario uses its own instance IDs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import trustme
from cryptography.hazmat.primitives import serialization

from conformance.drivers import Driver
from conformance.fault_proxy import Fault, Front
from conformance.tcp_proxy import CuttableProxy
from perdure import AsyncClient, Client
from support.server_process import ServerProcess

FLOWS: Final = Path(__file__).with_name("flows.py")
STATE_SECONDS_MAX: Final = 90.0
CALLS_AT_ONCE: Final = 64


class World:
    """One language's world. Its servers and drivers end with it. ``command``: see `Driver`."""

    def __init__(self, language: str, folder: Path, command: Sequence[str | Path] = ()) -> None:
        self.language = language
        self._command = command
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- the parts -----------------------------------------------------------------------------------------------

    @cached_property
    def server(self) -> ServerProcess:
        """The server that a scenario may kill: its file outlives it."""
        backups = self._folder / "backups"
        backups.mkdir(exist_ok=True)
        server = ServerProcess(
            FLOWS,
            self._folder / "conformance.db",
            log=self._folder / "server.log",
            arguments=[f"--backup-dir={backups}"],
        )
        return self._stack.enter_context(server)

    @cached_property
    def proxy(self) -> CuttableProxy:
        """TCP proxy between client and server. Its address stays the same when the server restarts."""
        proxy = self._stack.enter_context(CuttableProxy())
        proxy.upstream = self.server.address
        return proxy

    @cached_property
    def front(self) -> Front:
        """Proxy that rejects calls on demand."""
        return self._stack.enter_context(Front(self.proxy.address))

    @cached_property
    def _drivers(self) -> dict[str, Driver]:
        return {}

    def driver(self, world: str) -> Driver:
        """Return the driver that is connected to a scenario's world. Raises `DriverFailed`."""
        if world not in self._drivers:
            args = {"plain": self._plain, "front": self._through_front, "tls": self._over_tls}[world]()
            driver = Driver(self.language, self._folder / f"driver-{world}.log", self._command)
            self._stack.enter_context(driver)
            self._drivers[world] = driver
            answer = driver.call("connect", args)
            assert answer == {"ok": {}}, answer
        return self._drivers[world]

    def forget(self, world: str) -> None:
        """Leave a driver that failed to its end; the next scenario gets a new one."""
        self._drivers.pop(world, None)

    def close_drivers(self) -> dict[str, int]:
        """End every driver as a user would and return their exit codes. Raises `DriverFailed`."""
        return {world: self._drivers.pop(world).close() for world in list(self._drivers)}

    def _plain(self) -> dict[str, str]:
        return {"target": self.proxy.address}

    def _through_front(self) -> dict[str, str]:
        return {"target": self.front.address}

    def _over_tls(self) -> dict[str, str]:
        ca = trustme.CA()
        pems = self._folder / "pems"
        pems.mkdir()
        ca.cert_pem.write_to_path(str(pems / "ca.pem"))
        for name, host in (("server", "127.0.0.1"), ("client", "client.test")):
            leaf = ca.issue_cert(host)
            (pems / f"{name}.key").write_bytes(_pkcs8(leaf.private_key_pem.bytes()))
            for pem in leaf.cert_chain_pems:
                pem.write_to_path(str(pems / f"{name}.pem"), append=True)
        arguments = [
            f"--tls-cert={pems / 'server.pem'}",
            f"--tls-key={pems / 'server.key'}",
            f"--tls-client-ca={pems / 'ca.pem'}",
        ]
        server = ServerProcess(FLOWS, ":memory:", log=self._folder / "server-tls.log", arguments=arguments)
        self._stack.enter_context(server)
        return {
            "target": server.address,
            "ca": str(pems / "ca.pem"),
            "cert": str(pems / "client.pem"),
            "key": str(pems / "client.key"),
        }

    # --- what happens in it --------------------------------------------------------------------------------------

    def do(self, deed: str, args: dict[str, Any]) -> Any:
        """Run a ``do`` step. Its result is compared like a response."""
        return getattr(self, deed)(**args)

    def kill_server(self) -> None:
        self.server.kill()

    def drain_server(self) -> dict[str, int]:
        return {"exit": self.server.terminate()}

    def start_server(self) -> None:
        self.server.start()
        self.proxy.upstream = self.server.address

    def cut_connections(self) -> dict[str, bool]:
        return {"cut": self.proxy.cut() > 0}

    def await_state(self, instance_id: str, state: str) -> None:
        """Return once an instance is in a state; its history is the signal."""
        with Client(self.server.address) as client:
            for _ in client.watch_instance(instance_id, timeout=STATE_SECONDS_MAX):
                if client.get_instance(instance_id).state.name == state:
                    return
            found = client.get_instance(instance_id).state.name
            assert found == state, f"{instance_id} ended as {found} and will never be {state}"

    def fill_inbox(self, instance_id: str, event: str, times: int) -> None:
        asyncio.run(self._call(times, lambda client: client.resume(instance_id, event, buffer=True)))

    def fill_timers(self, instance_id: str, step_ref: str, times: int) -> None:
        asyncio.run(
            self._call(times, lambda client: client.schedule_resume(instance_id, step_ref, 3_600_000))
        )

    async def _call(self, times: int, call: Callable[[AsyncClient], Awaitable[object]]) -> None:
        room = asyncio.Semaphore(CALLS_AT_ONCE)
        async with AsyncClient(self.server.address) as client, asyncio.TaskGroup() as calls:

            async def send() -> None:
                async with room:
                    await call(client)

            for _ in range(times):
                calls.create_task(send())

    def fault(self, method: str, times: int = 1, violations: tuple[Any, ...] = (), **fault: Any) -> None:
        pairs = tuple((v["field"], v["description"]) for v in violations)
        self.front.fault(method, Fault(violations=pairs, **fault), times)

    def speak_newer(self, newer: bool) -> None:
        self.front.speak_newer(newer)

    def empty_pages(self, method: str, times: int) -> None:
        self.front.empty_pages(method, times)

    def sent(self, method: str) -> dict[str, int]:
        """Return the numbers of calls and of request IDs of a method since the last call of this function."""
        ids = self.front.sent(method)
        return {"calls": len(ids), "request_ids": len(set(ids) - {""})}


def _pkcs8(pem: bytes) -> bytes:
    """Return a key in the one form that every language's TLS takes."""
    return serialization.load_pem_private_key(pem, password=None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
