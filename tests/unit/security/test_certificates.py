"""Log events about a certificate, by a clock of the test, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from perdure_server.security.certificates import DAY_SECONDS, Certificates, Files

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = NOON.timestamp()

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    issue(files, NOON + timedelta(days=20))
    return files


def issue(files: Files, not_after: datetime) -> None:
    issued = trustme.CA().issue_cert("localhost", not_after=not_after)
    issued.cert_chain_pems[0].write_to_path(files.cert)
    issued.private_key_pem.write_to_path(files.key)


def test_a_certificate_is_logged_about_once_a_day_in_its_last_fourteen_days(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    certificates = Certificates(files, now=clock)
    logged = []
    for _ in range(4 * 22):
        caplog.clear()
        certificates.refresh()
        logged += [(record.getMessage(), record.days) for record in caplog.records]  # type: ignore[attr-defined]
        clock.seconds += DAY_SECONDS / 4

    assert logged[:2] == [("TLS certificate expires soon", 14), ("TLS certificate expires soon", 13)]
    assert logged[-2:] == [("TLS certificate expired", 0), ("TLS certificate expired", -1)]
    assert len(logged) == 14 + 2


def test_a_renewed_certificate_is_logged_about_by_its_own_date(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    issue(files, NOON + timedelta(days=2))
    certificates = Certificates(files, now=Clock())
    certificates.warn()
    issue(files, NOON + timedelta(days=90))
    certificates.refresh()
    certificates.refresh()

    assert [record.getMessage() for record in caplog.records] == ["TLS certificate expires soon"]
    assert certificates.expires_at == (NOON + timedelta(days=90)).timestamp()


def test_files_that_stay_unsound_are_logged_about_once(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(files, now=Clock())
    files.key.write_text("half")
    certificates.refresh()
    certificates.refresh()
    files.cert.unlink()
    certificates.refresh()

    assert len(caplog.records) == 2
    assert "cannot be read" in caplog.text
