"""The settings of a server process: what they mean, their units and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure import Workflow
from perdure.model.constants import DEFAULT_TARGET

DATABASE_DEFAULT: Final = "sqlite:///perdure.db"
DATABASE_MEMORY: Final = ":memory:"

SHUTDOWN_TIMEOUT_SECONDS: Final = 10.0
"""How long a stop waits for running steps and calls."""

ASYNC_STEPS_MAX: Final = 256
"""How many `async def` steps a process runs at once."""

SYNC_STEPS_MAX: Final = 32
"""How many plain functions a process runs as steps at once, each in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One server process.

    ``database`` is a URL (three slashes: relative to the working folder; four: absolute; or ``:memory:``).
    ``listen`` is HOST:PORT or unix:PATH; port 0 takes a free one. Outside loopback it needs ``tls_cert`` and
    ``tls_key`` (PEM files), or ``insecure``; with ``tls_client_ca`` only clients with a certificate of that authority
    are let in.
    ``metrics_listen`` is where metrics are served, likewise, if anywhere; they have no TLS, so outside loopback it
    needs
    ``insecure``.
    ``health_listen`` is the address of a listener that serves health checks only, without TLS. It can be
    ``unix:PATH``, as ``listen`` can.
    ``backup_dir`` is the directory that BackupDatabase writes to. Without it, BackupDatabase is rejected.
    ``shutdown_timeout_seconds`` is how long a stop waits for running steps and calls.
    """

    workflows: tuple[type[Workflow], ...] = ()
    database: str = DATABASE_DEFAULT
    listen: str = DEFAULT_TARGET
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    reflection: bool = False
    metrics_listen: str | None = None
    health_listen: str | None = None
    backup_dir: Path | None = None
    shutdown_timeout_seconds: float = SHUTDOWN_TIMEOUT_SECONDS
    max_async_steps: int = ASYNC_STEPS_MAX
    max_sync_steps: int = SYNC_STEPS_MAX
