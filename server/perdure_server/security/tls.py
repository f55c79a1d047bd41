"""TLS: the certificate files, read and checked once, at start.

What lives here: reading PEM files and turning them into gRPC's credentials. What may not: where to listen (``listen``).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc


class TlsRefused(Exception):
    """The TLS files cannot be used. The message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM bytes: the server's certificate chain and key; with ``client_ca``, only clients of that authority get in."""

    cert: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return what gRPC listens with."""
        return grpc.ssl_server_credentials(
            [(self.key, self.cert)],
            root_certificates=self.client_ca,
            require_client_auth=self.client_ca is not None,
        )


def load_tls(cert: Path | None, key: Path | None, client_ca: Path | None = None) -> TlsConfig | None:
    """Read the files of ``--tls-cert``, ``--tls-key`` and ``--tls-client-ca``; None where there are none.

    Raises `TlsRefused`. gRPC would take bad files without a word and then fail every handshake.
    """
    if cert is None and key is None:
        if client_ca is not None:
            raise TlsRefused("--tls-client-ca needs --tls-cert and --tls-key beside it")
        return None
    if cert is None or key is None:
        raise TlsRefused("--tls-cert and --tls-key go together; one of them is missing")
    config = TlsConfig(
        _read("--tls-cert", cert),
        _read("--tls-key", key),
        _read("--tls-client-ca", client_ca) if client_ca else None,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password callback, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except _Encrypted as error:
        raise TlsRefused(f"--tls-key: {key} is encrypted; give a key without a password") from error
    except ssl.SSLError as error:
        why = (
            "they do not belong together"
            if "MISMATCH" in str(error)
            else "they are no certificate and key in PEM"
        )
        raise TlsRefused(f"--tls-cert {cert}, --tls-key {key}: {why}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise TlsRefused(f"--tls-client-ca: {client_ca} holds no certificate in PEM") from error
    return config


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    raise _Encrypted


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsRefused(f"{option}: {path} cannot be read: {error.strerror}") from error
