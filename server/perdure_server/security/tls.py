"""TLS: loading certificates, and the rule that the server does not offer plain text to other machines."""

from __future__ import annotations

from pathlib import Path

from perdure_server.security import pem
from perdure_server.security.addresses import Address, CannotListenError, is_loopback
from perdure_server.security.certificates import Certificates, Files


def load_certificates(
    cert: Path | None, key: Path | None, client_ca: Path | None = None
) -> Certificates | None:
    """Return the certificate in these PEM files. None if there are no files.

    With ``client_ca``, clients need a certificate of this authority. Raises `CannotListenError` if the files are
    invalid. gRPC would accept them and then fail every handshake.
    """
    if cert is None and key is None:
        if client_ca is not None:
            raise CannotListenError(
                "--tls-client-ca requires --tls-cert and --tls-key", hint="add --tls-cert and --tls-key"
            )
        return None
    if cert is None or key is None:
        missing = "--tls-cert" if cert is None else "--tls-key"
        raise CannotListenError("--tls-cert and --tls-key require each other", hint=f"add {missing}")
    try:
        return Certificates(Files(cert=cert, key=key, client_ca=client_ca))
    except pem.InvalidPemError as error:
        raise CannotListenError(str(error)) from error


def check_exposure(address: Address, *, has_tls: bool, insecure: bool) -> None:
    """Raise `CannotListenError` if other machines could reach the API without TLS, unless ``insecure`` allows it."""
    if has_tls:
        return
    _check_plain_text(
        address,
        insecure,
        f"{address} can be reached from other machines without TLS",
        "add --tls-cert and --tls-key, listen on 127.0.0.1",
    )


def check_metrics_exposure(address: Address, *, insecure: bool) -> None:
    """Raise `CannotListenError` if other machines could reach the metrics, unless ``insecure`` allows it."""
    _check_plain_text(
        address,
        insecure,
        f"--metrics-listen {address} can be reached from other machines, and metrics do not support TLS",
        "listen on 127.0.0.1",
    )


def check_health_exposure(address: Address, *, insecure: bool) -> None:
    """Raise `CannotListenError` if other machines could reach the health listener, unless ``insecure`` allows it."""
    _check_plain_text(
        address,
        insecure,
        f"--health-listen {address} can be reached from other machines, and probes do not support TLS",
        "listen on 127.0.0.1 or a Unix socket",
    )


def _check_plain_text(address: Address, insecure: bool, message: str, hint: str) -> None:
    if insecure or is_loopback(address.host):
        return
    raise CannotListenError(
        message,
        hint=f"{hint}, or add --insecure if something else protects it, such as a service mesh or a private network",
    )
