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
"""Default time that a stop waits for running steps and calls, in seconds."""

ASYNC_STEPS_MAX: Final = 256
"""Default maximum number of `async def` steps that a process runs at the same time."""

SYNC_STEPS_MAX: Final = 32
"""Default maximum number of plain functions that a process runs as steps at the same time, each in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The configuration of one server process.

    - ``database`` is a URL or ``:memory:``. With three slashes the path is relative to the working directory, with four
      it is absolute.
    - ``listen`` is HOST:PORT or unix:PATH. Port 0 takes a free port. A non-loopback address requires ``tls_cert`` and
      ``tls_key`` (PEM files), or ``insecure``.
    - ``tls_client_ca`` is a PEM file. With it, clients must present a certificate of that authority.
    - ``metrics_listen`` is the HOST:PORT of the metrics. None disables them. They do not support TLS, so a non-loopback
      address requires ``insecure``.
    - ``health_listen`` is the HOST:PORT or unix:PATH of a listener for health checks only, without TLS.
    - ``backup_dir`` is the directory that BackupDatabase writes to. Without it, BackupDatabase is rejected.
    - ``shutdown_timeout_seconds`` is the time that a stop waits for running steps and calls.
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
