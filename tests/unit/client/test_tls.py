"""The clients over TLS, with certificates generated for the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme

from perdure import errors
from perdure.client import NO_RETRIES, AsyncClient, Client, TlsOptions
from perdure.v1 import runner_service_pb2
from support.stub_server import StubServer


@dataclass(frozen=True)
class Pems:
    """Certificate, key and authority of one party, as PEM."""

    ca: bytes
    cert: bytes
    key: bytes


def issued(ca: trustme.CA, name: str) -> Pems:
    leaf = ca.issue_cert(name)
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    return Pems(ca.cert_pem.bytes(), chain, leaf.private_key_pem.bytes())


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def server(ca: trustme.CA) -> AsyncIterator[StubServer]:
    """A server with the name perdure.test that accepts only clients of its own authority."""
    own = issued(ca, "perdure.test")
    credentials = grpc.ssl_server_credentials([(own.key, own.cert)], own.ca, require_client_auth=True)
    async with StubServer(credentials=credentials) as server:
        server.answers["StartInstance"].append(runner_service_pb2.StartInstanceResponse(instance_id="i1"))
        yield server


async def test_both_clients_authenticate_with_mutual_tls(
    server: StubServer, ca: trustme.CA, tmp_path: Path
) -> None:
    pems = issued(ca, "client.test")
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_bytes(getattr(pems, name))
    as_bytes = TlsOptions(ca=pems.ca, cert=pems.cert, key=pems.key, server_name="perdure.test")
    as_files = TlsOptions(
        ca=tmp_path / "ca.pem",
        cert=str(tmp_path / "cert.pem"),
        key=tmp_path / "key.pem",
        server_name="perdure.test",
    )

    async with AsyncClient(server.target, tls=as_bytes) as client:
        assert (await client.start_instance("order")).instance_id == "i1"
    with Client(server.target, tls=as_files) as blocking:
        assert (await asyncio.to_thread(blocking.start_instance, "order")).instance_id == "i1"


@pytest.mark.parametrize("case", ["no client certificate", "another authority", "another name", "no tls"])
async def test_a_party_that_is_not_trusted_gets_no_response(
    server: StubServer, ca: trustme.CA, case: str
) -> None:
    known = issued(ca, "client.test")
    stranger = issued(trustme.CA(), "client.test")
    tls = {
        "no client certificate": TlsOptions(ca=known.ca, server_name="perdure.test"),
        "another authority": TlsOptions(
            ca=known.ca, cert=stranger.cert, key=stranger.key, server_name="perdure.test"
        ),
        "another name": TlsOptions(ca=known.ca, cert=known.cert, key=known.key, server_name="other.test"),
        "no tls": None,
    }[case]

    async with AsyncClient(server.target, tls=tls, timeout=5, retries=NO_RETRIES) as client:
        with pytest.raises(errors.UnavailableError):
            await client.start_instance("order")

    assert not server.requests
