"""Commands over TLS, and their errors if client and server disagree about TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import trustme
from click.testing import CliRunner, Result

from perdure.v1 import instance_service_pb2
from perdure_server.cli.demo import hints
from perdure_server.cli.errors import Exit, unreached
from perdure_server.cli.main import app
from support.stub_server import StubServer


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pems(ca: trustme.CA, tmp_path: Path) -> Path:
    """A folder with the authority, another one, and a certificate with its key."""
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    leaf = ca.issue_cert("127.0.0.1", "shop.test")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "empty.pem").write_text("nothing of the kind\n")
    return tmp_path


def credentials(ca: trustme.CA, *names: str, mutual: bool = False) -> grpc.ServerCredentials:
    leaf = ca.issue_cert(*names)
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    authority = ca.cert_pem.bytes() if mutual else None
    return grpc.ssl_server_credentials(
        [(leaf.private_key_pem.bytes(), chain)], authority, require_client_auth=mutual
    )


@pytest.fixture
async def plain() -> AsyncIterator[StubServer]:
    async with StubServer() as server:
        yield server


@pytest.fixture
async def secure(ca: trustme.CA) -> AsyncIterator[StubServer]:
    async with StubServer(credentials=credentials(ca, "127.0.0.1")) as server:
        yield server


async def cancel(server: StubServer, *arguments: str) -> Result:
    server.answers["CancelInstance"].append(instance_service_pb2.CancelInstanceResponse(revision=9))
    command = ["cancel", "i1", "--server", server.target, *arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


async def test_a_server_whose_authority_is_named_is_trusted(secure: StubServer, pems: Path) -> None:
    result = await cancel(secure, "--tls-ca", f"{pems}/ca.pem")

    assert (result.exit_code, result.stdout) == (Exit.OK, "cancelled at revision 9\n")


@pytest.mark.parametrize("option", ["--tls", "--tls-ca"])
async def test_tls_to_a_server_without_tls_has_a_hint(plain: StubServer, pems: Path, option: str) -> None:
    result = await cancel(plain, *([option] if option == "--tls" else [option, f"{pems}/ca.pem"]))

    assert result.exit_code == Exit.UNAVAILABLE
    assert (
        result.stderr
        == f"perdure: error: the server at {plain.target} does not use TLS\nhint: omit {option}\n"
    )


async def test_plain_text_to_a_server_with_tls_has_a_hint(secure: StubServer) -> None:
    result = await cancel(secure)

    assert result.exit_code == Exit.UNAVAILABLE
    assert result.stderr.startswith(f"perdure: error: the server at {secure.target} closed the connection: ")
    assert result.stderr.endswith("\nhint: the server may require TLS: try --tls or --tls-ca\n")


async def test_a_certificate_of_another_authority_is_not_trusted(secure: StubServer, pems: Path) -> None:
    for arguments in (["--tls"], ["--tls-ca", f"{pems}/other.pem"]):
        result = await cancel(secure, *arguments)

        assert result.exit_code == Exit.UNAVAILABLE
        assert (
            f"the certificate of the server at {secure.target} is not trusted: unable to get" in result.stderr
        )
        assert result.stderr.endswith("\nhint: name its certificate authority with --tls-ca FILE\n")


async def test_a_certificate_for_another_name_is_reported(ca: trustme.CA, pems: Path) -> None:
    async with StubServer(credentials=credentials(ca, "shop.test")) as server:
        result = await cancel(server, "--tls-ca", f"{pems}/ca.pem")

    assert f"the certificate of the server at {server.target} does not name 127.0.0.1\n" in result.stderr


async def test_a_missing_client_certificate_has_a_hint(ca: trustme.CA, pems: Path) -> None:
    own = ["--tls-cert", f"{pems}/cert.pem", "--tls-key", f"{pems}/key.pem"]
    async with StubServer(credentials=credentials(ca, "127.0.0.1", mutual=True)) as server:
        without = await cancel(server, "--tls-ca", f"{pems}/ca.pem")
        with_one = await cancel(server, "--tls-ca", f"{pems}/ca.pem", *own)

    assert without.stderr.endswith(
        "\nhint: the server may require a client certificate: try --tls-cert and --tls-key\n"
    )
    assert with_one.exit_code == Exit.OK


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"--tls-ca": "empty.pem"}, "--tls-ca: {}/empty.pem does not have a PEM certificate"),
        ({"--tls-ca": "none.pem"}, "--tls-ca: {}/none.pem cannot be read: No such file or directory"),
        ({"--tls-ca": ""}, "--tls-ca: {} cannot be read: Is a directory"),
        (
            {"--tls-cert": "empty.pem", "--tls-key": "key.pem"},
            "--tls-cert {0}/empty.pem, --tls-key {0}/key.pem: they are not a c",
        ),
        (
            {"--tls-cert": "other.pem", "--tls-key": "key.pem"},
            "--tls-cert {0}/other.pem, --tls-key {0}/key.pem: they do not belong together",
        ),
        ({"--tls-cert": "cert.pem"}, "--tls-cert and --tls-key go together\nhint: one of them is missing"),
    ],
)
def test_an_invalid_pem_file_is_a_usage_error(pems: Path, options: dict[str, str], told: str) -> None:
    arguments = [text for option, name in options.items() for text in (option, f"{pems}/{name}")]

    result = CliRunner().invoke(app, ["get", "i1", "--server", "127.0.0.1:1", *arguments])

    assert result.exit_code == Exit.USAGE
    assert result.stderr.startswith(f"perdure: error: {told.format(pems)}")


def test_a_socket_of_another_user_is_not_a_missing_server() -> None:
    why = "unix:/run/x.sock: connect failed: addr: unix:/run/x.sock error: Permission denied"

    message, hint = unreached(why, "unix:/run/x.sock", [])

    assert message == "no permission to connect to unix:/run/x.sock"
    assert "as the server's user" in hint


def test_an_expired_certificate_does_not_hint_at_another_authority() -> None:
    why = "SSL_ERROR_SSL: error:1000007d:SSL routines:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK"

    assert unreached(why, "here:1", ["--tls"]) == (
        "the certificate of the server at here:1 is not trusted: certificate has expired",
        "the server needs another certificate",
    )


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("127.0.0.1:7420", "127.0.0.1:7420"),
        ("0.0.0.0:7420", "127.0.0.1:7420"),
        ("192.0.2.1:7420", "127.0.0.1:7420"),
    ],
)
def test_the_demos_lines_trust_the_servers_certificate_and_name_it_as_it_does(
    pems: Path, address: str, named: str
) -> None:
    lines = hints(address, tls_cert=pems / "cert.pem", tls_key=pems / "key.pem").splitlines()

    assert len(lines) == 2
    assert all(line.endswith(f" --server {named} --tls-ca {pems}/cert.pem") for line in lines)


def test_the_demos_lines_leave_room_for_the_clients_own_certificate(pems: Path) -> None:
    lines = hints(
        "127.0.0.1:7421", tls_cert=pems / "cert.pem", tls_key=pems / "key.pem", client_cert=True
    ).splitlines()

    assert all(line.endswith("cert.pem --tls-cert YOUR.pem --tls-key YOUR.key") for line in lines)


def test_the_demo_commands_name_the_server_only_if_not_the_default() -> None:
    assert "--" not in hints("127.0.0.1:7420").replace("--instance-id", "").replace("--payload", "")
    assert hints("127.0.0.1:7421").count(" --server 127.0.0.1:7421") == 3


async def test_the_demos_lines_work_over_tls(ca: trustme.CA, pems: Path) -> None:
    cert, key = (pems / "cert.pem").read_bytes(), (pems / "key.pem").read_bytes()
    async with StubServer(credentials=grpc.ssl_server_credentials([(key, cert)])) as server:
        line = hints(server.target, tls_cert=pems / "cert.pem", tls_key=pems / "key.pem").splitlines()[1]
        result = await cancel(server, *line.partition("Good morning\"}' ")[2].split())

    assert result.exit_code == Exit.OK
