"""Certificates and keys in files: whether they are what an option says, before gRPC takes them without a word."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn


class InvalidPemError(Exception):
    """A file is not what its option says. The message names both."""


def read(option: str, path: Path) -> bytes:
    """Return what is in a file. Raises `InvalidPemError` for one that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidPemError(f"{option}: {path} cannot be read: {error.strerror}") from error


def read_authorities(option: str, path: Path) -> bytes:
    """Return a file of certificates to trust. Raises `InvalidPemError` for one without a certificate."""
    pem = read(option, path)
    text = pem.decode("ascii", "replace").replace("\ufffd", "?")  # authorities' names are in comments
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidPemError(f"{option}: {path} holds no certificate in PEM") from error
    return pem


def read_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """Return the files of ``--tls-cert`` and ``--tls-key``. Raises `InvalidPemError` unless they belong together."""
    chain, secret = read("--tls-cert", cert), read("--tls-key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password callback, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except _EncryptedKeyError as error:
        raise InvalidPemError(f"--tls-key: {key} is encrypted; give a key without a password") from error
    except ssl.SSLError as error:
        why = (
            "they do not belong together"
            if "MISMATCH" in str(error)
            else "they are no certificate and key in PEM"
        )
        raise InvalidPemError(f"--tls-cert {cert}, --tls-key {key}: {why}") from error
    except OSError as error:
        raise InvalidPemError(f"--tls-cert {cert}, --tls-key {key}: {error.strerror}") from error
    if (chain, secret) != (read("--tls-cert", cert), read("--tls-key", key)):
        # OpenSSL read the files by itself: it can have read other content than this.
        raise InvalidPemError(f"--tls-cert {cert}, --tls-key {key}: the files changed while they were read")
    return chain, secret


def expires_at(option: str, path: Path, chain: bytes) -> float:
    """Return when the first certificate of a chain to expire does so, in seconds since the epoch. Raises
    `InvalidPemError`.
    """
    # Loaded here: the commands that use no TLS need not wait for it.
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(chain)
        return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
    except ValueError as error:
        raise InvalidPemError(f"{option}: {path} holds a certificate that cannot be decoded") from error


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> NoReturn:
    raise _EncryptedKeyError
