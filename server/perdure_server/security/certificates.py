"""The server's certificate: loading, replacement without a restart, and warnings before it expires.

gRPC asks for the certificate at each handshake, on a thread of its own, and gets it from memory. `refresh` blocks: it
compares the files with the loaded ones and checks that certificate and key belong together. A pair that is written
only in part is rejected, logged once, and read again at the next refresh. Open connections keep their certificate.

Must not: schedule itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc

from perdure_server.security import pem

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 30.0
"""Interval in seconds at which a server compares the files with the loaded ones."""

WARNING_DAYS: Final = 14
"""Number of days before the expiry of a certificate from which it is logged."""

DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The PEM files of ``--tls-cert``, ``--tls-key`` and, if given, ``--tls-client-ca``."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class _Loaded:
    chain: bytes
    key: bytes
    authorities: bytes | None
    expires_at: float


class Certificates:
    """The certificate that a server presents. `refresh` belongs to one thread. The rest can be used from any thread.

    Raises `pem.InvalidPemError` when the files are not a certificate and its key.
    """

    def __init__(self, files: Files, *, now: Callable[[], float] = time.time) -> None:
        self._files = files
        self._now = now
        self._rejected = ""
        self._warned_at: float | None = None
        self._loaded = _load(files)
        self._served = _configuration(self._loaded)
        self._fetched = self._served

    @property
    def expires_at(self) -> float:
        """The time at which the first certificate of the chain expires, in seconds since the epoch."""
        return self._loaded.expires_at

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one port. They follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            self._served,
            self._fetch,  # type: ignore[arg-type] # None says that nothing changed
            require_client_authentication=self._files.client_ca is not None,
        )

    def refresh(self) -> None:
        """Serve the current content of the files if it is valid. Blocks.

        Logs changes, errors, and an expiry that is near.
        """
        try:
            loaded = _load(self._files)
        except pem.InvalidPemError as error:
            if str(error) != self._rejected:
                self._rejected = str(error)
                log.error("TLS files rejected, keeping the certificate in use: %s", error)
        else:
            self._rejected = ""
            if loaded != self._loaded:
                self._loaded, self._served = loaded, _configuration(loaded)
                self._warned_at = None
                log.info("TLS certificate reloaded", extra={"expires": _text(loaded.expires_at)})
        self.warn()

    def warn(self) -> None:
        """Log a certificate that has expired or expires soon, once a day."""
        now, expires_at = self._now(), self.expires_at
        days = (expires_at - now) / DAY_SECONDS
        if days > WARNING_DAYS or (self._warned_at is not None and 0 <= now - self._warned_at < DAY_SECONDS):
            return
        self._warned_at = now
        fields = {"expires": _text(expires_at), "days": int(days), "file": str(self._files.cert)}
        if days <= 0:
            log.error("TLS certificate expired", extra=fields)
        else:
            log.warning("TLS certificate expires soon", extra=fields)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        served = self._served
        if served is self._fetched:
            return None  # nothing new
        self._fetched = served
        return served


def _load(files: Files) -> _Loaded:
    chain, key = pem.read_pair(files.cert, files.key)
    authorities = pem.read_authorities("--tls-client-ca", files.client_ca) if files.client_ca else None
    return _Loaded(chain, key, authorities, pem.expires_at("--tls-cert", files.cert, chain))


def _configuration(loaded: _Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key, loaded.chain)], root_certificates=loaded.authorities
    )


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
