"""PEM files of certificates and keys, with checks that gRPC does not make."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn


class InvalidPemError(Exception):
    """A file does not have the content that its option requires. The message names both."""


def read(option: str, path: Path) -> bytes:
    """Return the content of a file. Raises `InvalidPemError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidPemError(f"{option}: {path} cannot be read: {error.strerror}") from error


def read_authorities(option: str, path: Path) -> bytes:
    """Return the content of a file of trusted certificates. Raises `InvalidPemError` if it does not have one."""
    pem = read(option, path)
    text = pem.decode("ascii", "replace").replace("\ufffd", "?")  # comments can have names of authorities
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidPemError(f"{option}: {path} does not have a PEM certificate") from error
    return pem


def read_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """Return the content of ``--tls-cert`` and ``--tls-key``.

    Raises `InvalidPemError` if they are not valid or do not belong together.
    """
    chain, secret = read("--tls-cert", cert), read("--tls-key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password callback, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except _EncryptedKeyError as error:
        raise InvalidPemError(f"--tls-key: {key} is encrypted; use a key without a password") from error
    except ssl.SSLError as error:
        why = (
            "they do not belong together"
            if "MISMATCH" in str(error)
            else "they are not a certificate and a key in PEM"
        )
        raise InvalidPemError(f"--tls-cert {cert}, --tls-key {key}: {why}") from error
    except OSError as error:
        raise InvalidPemError(f"--tls-cert {cert}, --tls-key {key}: {error.strerror}") from error
    if (chain, secret) != (read("--tls-cert", cert), read("--tls-key", key)):
        # OpenSSL reads the files itself, so it can have read other content.
        raise InvalidPemError(f"--tls-cert {cert}, --tls-key {key}: the files changed while they were read")
    return chain, secret


def expires_at(option: str, path: Path, chain: bytes) -> float:
    """Return the time at which the first certificate of a chain expires, in seconds since the epoch.

    Raises `InvalidPemError`.
    """
    # Imported here, because commands without TLS do not need it and should start fast.
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(chain)
        return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
    except ValueError as error:
        raise InvalidPemError(f"{option}: {path} has a certificate that cannot be decoded") from error


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> NoReturn:
    raise _EncryptedKeyError
