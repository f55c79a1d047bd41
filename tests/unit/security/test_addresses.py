"""Where the server may listen: addresses, the loopback rule, the TLS files."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme

from perdure_server.security.addresses import (
    Address,
    CannotListenError,
    check_exposure,
    check_metrics_exposure,
    is_loopback,
    load_certificates,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:7420", "127.0.0.1", 7420), ("[::1]:0", "::1", 0), ("localhost:65535", "localhost", 65_535)],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7420",
        ":7420",
        "localhost",
        "localhost:",
        "::1:7420",
        "[::1]",
        "a:65536",
        "a:-1",
        "a:+1",
        "a:7x",
        "a:٧",
        "[a]:1",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CannotListenError, match="HOST:PORT; write it like"):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1", "localhost"])
def test_loopback_needs_no_protection(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Address(host, 7420), has_tls=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_outside_loopback_the_server_wants_tls_or_to_be_told(host: str) -> None:
    address = Address(host, 7420)

    with pytest.raises(CannotListenError, match="--tls-cert"):
        check_exposure(address, has_tls=False, insecure=False)
    check_exposure(address, has_tls=True, insecure=False)
    check_exposure(address, has_tls=False, insecure=True)


def test_outside_loopback_metrics_want_the_server_to_be_told() -> None:
    address = Address("0.0.0.0", 9464)

    with pytest.raises(CannotListenError, match=r"--metrics-listen .* no TLS.*--insecure"):
        check_metrics_exposure(address, insecure=False)
    check_metrics_exposure(address, insecure=True)
    check_metrics_exposure(Address("127.0.0.1", 9464), insecure=False)


def test_a_name_that_stands_for_nothing_is_refused() -> None:
    with pytest.raises(CannotListenError, match="looked up"):
        check_exposure(Address("nothing.invalid", 7420), has_tls=False, insecure=False)


# --- TLS ---------------------------------------------------------------------------------------------------------


class Files:
    """Certificates of one authority, as files."""

    def __init__(self, folder: Path, name: str = "one") -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        self.cert, self.key, self.ca = (folder / f"{name}-{kind}.pem" for kind in ("cert", "key", "ca"))
        issued.cert_chain_pems[0].write_to_path(self.cert)
        issued.private_key_pem.write_to_path(self.key)
        authority.cert_pem.write_to_path(self.ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_without_files_there_is_no_tls() -> None:
    assert load_certificates(None, None) is None


def test_sound_files_are_taken(files: Files) -> None:
    assert load_certificates(files.cert, files.key) is not None
    assert load_certificates(files.cert, files.key, files.ca) is not None


def test_half_of_the_files_are_refused(files: Files) -> None:
    for given in ((files.cert, None, None), (None, files.key, None), (None, None, files.ca)):
        with pytest.raises(CannotListenError, match="--tls-"):
            load_certificates(*given)


def test_a_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(CannotListenError, match="do not belong together"):
        load_certificates(files.cert, Files(tmp_path, "two").key)


def test_files_that_hold_something_else_are_refused(files: Files, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("hello")

    for given in ((junk, files.key), (files.cert, junk), (files.cert, files.key, junk)):
        with pytest.raises(CannotListenError, match=r"junk\.pem"):
            load_certificates(*given)
    with pytest.raises(CannotListenError, match="cannot be read"):
        load_certificates(files.cert, tmp_path / "missing.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to encrypt a key")
def test_an_encrypted_key_is_refused_without_asking_for_its_password(files: Files, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:x", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)

    with pytest.raises(CannotListenError, match="encrypted"):
        load_certificates(files.cert, locked)
    assert ssl.OPENSSL_VERSION
