"""Certificates of a running server: renewal without a restart, and log messages before they expire."""

from __future__ import annotations

import json
import signal
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from perdure import Client
from perdure.client import TlsOptions
from support.prometheus_scrape import read
from support.server_process import ServerProcess

SECONDS_MAX: Final = 30.0

pytestmark = pytest.mark.e2e


class Pems:
    """A certificate and its key as files, issued again as often as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"

    def issue(self, days: float = 365.0) -> trustme.LeafCert:
        issued = self.ca.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=days))
        self.write_cert(issued)
        self.key.write_bytes(issued.private_key_pem.bytes())
        return issued

    def write_cert(self, issued: trustme.LeafCert) -> None:
        self.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))


@pytest.fixture
def pems(tmp_path: Path) -> Pems:
    return Pems(tmp_path)


@pytest.fixture
def server(server_process: Callable[..., ServerProcess], pems: Pems) -> ServerProcess:
    pems.issue()
    return server_process(
        Path(__file__).parent / "faults/plain_app.py",
        arguments=[
            "--tls-cert",
            str(pems.cert),
            "--tls-key",
            str(pems.key),
            "--metrics-listen",
            "127.0.0.1:0",
        ],
        start=False,
    )


def served(server: ServerProcess) -> bytes:
    host, _, port = server.address.rpartition(":")
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port)), timeout=SECONDS_MAX))


def der(issued: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def await_event(server: ServerProcess, message: str, count: int = 1) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        events = [json.loads(line) for line in server.log.read_text().splitlines()]
        found = [event for event in events if event["message"].startswith(message)]
        if len(found) >= count:
            return found[-1]
        assert time.monotonic() < deadline, events
        time.sleep(0.02)


def test_a_renewed_certificate_is_served_after_a_hangup(server: ServerProcess, pems: Pems) -> None:
    server.start()
    options = TlsOptions(ca=pems.ca.cert_pem.bytes())
    with Client(server.address, tls=options) as client:
        client.check_health()
        for count in (1, 2):
            issued = pems.issue()
            server.signal(signal.SIGHUP)
            await_event(server, "TLS certificate reloaded", count)

            assert served(server) == der(issued)
            client.check_health()  # over the connection that it has
        with Client(server.address, tls=options) as other:
            other.check_health()
    assert server.terminate() == 0


def test_a_half_written_pair_keeps_the_certificate_in_use(server: ServerProcess, pems: Pems) -> None:
    before = pems.issue()
    server.start()
    after = pems.ca.issue_cert("127.0.0.1")
    pems.write_cert(after)
    server.signal(signal.SIGHUP)
    await_event(server, "TLS files rejected")

    assert served(server) == der(before)

    pems.key.write_bytes(after.private_key_pem.bytes())
    server.signal(signal.SIGHUP)
    await_event(server, "TLS certificate reloaded")

    assert served(server) == der(after)


@pytest.mark.parametrize(
    ("days", "message"), [(13.5, "TLS certificate expires soon"), (-1.0, "TLS certificate expired")]
)
def test_an_expiry_that_is_near_or_over_is_logged_at_start(
    server: ServerProcess, pems: Pems, days: float, message: str
) -> None:
    pems.issue(days)
    server.start()

    assert await_event(server, message)["days"] == int(days)


def test_the_expiry_is_a_metric(server: ServerProcess, pems: Pems) -> None:
    import urllib.request

    pems.issue(100)
    server.start()
    address = await_event(server, "started")["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=SECONDS_MAX) as answer:
        expires = read(answer.read().decode())("perdure_tls_certificate_expiry_timestamp_seconds")

    assert abs(expires - time.time() - 100 * 86_400) < 3_600
