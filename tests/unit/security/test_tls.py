"""TLS: the rule that plain text stays on this machine, and the PEM files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

from perdure_server.security.addresses import Address, CannotListenError
from perdure_server.security.tls import (
    check_exposure,
    check_health_exposure,
    check_metrics_exposure,
    load_certificates,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1", "localhost"])
def test_loopback_does_not_require_tls(host: str) -> None:
    check_exposure(Address(host, 7420), has_tls=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_other_addresses_require_tls_or_insecure(host: str) -> None:
    address = Address(host, 7420)

    with pytest.raises(CannotListenError, match="without TLS") as caught:
        check_exposure(address, has_tls=False, insecure=False)
    assert "--tls-cert" in caught.value.hint
    check_exposure(address, has_tls=True, insecure=False)
    check_exposure(address, has_tls=False, insecure=True)


def test_metrics_outside_loopback_require_insecure() -> None:
    address = Address("0.0.0.0", 9464)

    with pytest.raises(CannotListenError, match=r"--metrics-listen .* do not support TLS.*--insecure"):
        check_metrics_exposure(address, insecure=False)
    check_metrics_exposure(address, insecure=True)
    check_metrics_exposure(Address("127.0.0.1", 9464), insecure=False)


def test_health_checks_outside_loopback_require_insecure() -> None:
    address = Address("0.0.0.0", 9465)

    with pytest.raises(CannotListenError, match=r"--health-listen .* do not support TLS.*--insecure"):
        check_health_exposure(address, insecure=False)
    check_health_exposure(address, insecure=True)
    check_health_exposure(Address("127.0.0.1", 9465), insecure=False)


# --- files -------------------------------------------------------------------------------------------------------


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


def test_without_files_there_is_no_certificate() -> None:
    assert load_certificates(None, None) is None


def test_valid_files_are_loaded(files: Files) -> None:
    assert load_certificates(files.cert, files.key) is not None
    assert load_certificates(files.cert, files.key, files.ca) is not None


def test_an_incomplete_set_of_files_is_rejected(files: Files) -> None:
    for given, missing in (
        ((files.cert, None, None), "--tls-key"),
        ((None, files.key, None), "--tls-cert"),
        ((None, None, files.ca), "--tls-cert and --tls-key"),
    ):
        with pytest.raises(CannotListenError) as caught:
            load_certificates(*given)
        assert caught.value.hint == f"add {missing}"


def test_a_key_of_another_certificate_is_rejected(files: Files, tmp_path: Path) -> None:
    with pytest.raises(CannotListenError, match="do not belong together"):
        load_certificates(files.cert, Files(tmp_path, "two").key)


def test_files_with_other_content_are_rejected(files: Files, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("hello")

    for given in ((junk, files.key), (files.cert, junk), (files.cert, files.key, junk)):
        with pytest.raises(CannotListenError, match=r"junk\.pem"):
            load_certificates(*given)
    with pytest.raises(CannotListenError, match="cannot be read"):
        load_certificates(files.cert, tmp_path / "missing.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to encrypt a key")
def test_an_encrypted_key_is_rejected_without_a_password_prompt(files: Files, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:x", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)

    with pytest.raises(CannotListenError, match="encrypted"):
        load_certificates(files.cert, locked)
