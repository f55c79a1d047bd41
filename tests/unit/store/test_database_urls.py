"""Database URLs: which file they name, and how a wrong one is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from perdure_server.cli.main import app
from perdure_server.store.factory import DatabaseUrlError, open_store, path_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///perdure.db", "perdure.db"),
        ("sqlite:///./a/perdure.db", "./a/perdure.db"),
        ("sqlite:////var/lib/perdure.db", "/var/lib/perdure.db"),
        ("sqlite:///orders 2024.db", "orders 2024.db"),
        ("sqlite:///100%.db", "100%.db"),
        ("sqlite:///größe.db", "größe.db"),
        (":memory:", None),
        ("sqlite:///:memory:", None),
    ],
)
def test_a_url_names_a_file(url: str, path: str | None) -> None:
    assert path_of(url) == path


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite:///x.db?mode=ro", "'sqlite:///x.db'"),
        ("sqlite:////srv/x.db?cache=shared&mode=ro", "'sqlite:////srv/x.db'"),
        ("sqlite:///x.db#main", "'sqlite:///x.db'"),
        ("sqlite:///my%20orders.db", "write the path as it is"),
        ("x.db", "'sqlite:///x.db'"),
        ("./x.db", "'sqlite:///./x.db'"),
        ("/srv/x.db", "'sqlite:////srv/x.db'"),
        ("sqlite://x.db", "'sqlite:///x.db'"),
        ("sqlite:x.db", "'sqlite:///x.db'"),
        ("sqlite:/srv/x.db", "'sqlite:////srv/x.db'"),
        ("sqlite://///srv/x.db", "'sqlite:////srv/x.db'"),
        ("SQLite:///x.db", "'sqlite:///x.db'"),
        ("file:x.db?mode=ro", "'sqlite:///x.db'"),
        ("file:///srv/x.db", "'sqlite:////srv/x.db'"),
        ("postgresql://here/perdure", "'postgresql' is not supported"),
        ("sqlite:///", "sqlite:///relative/path.db"),
        ("sqlite:////", "sqlite:///relative/path.db"),
        ("sqlite:///folder/", "sqlite:///relative/path.db"),
        ("sqlite:///..", "name a file in it"),
        ("sqlite:///x.db ", "sqlite:///relative/path.db"),
        ("sqlite:///x\n.db", "sqlite:///relative/path.db"),
        ("sqlite:///x\0.db", "sqlite:///relative/path.db"),
        ("", "sqlite:///relative/path.db"),
    ],
)
def test_a_wrong_url_is_rejected_with_the_right_one(url: str, hint: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        open_store(url)

    message, separator, told = str(caught.value).partition("; ")
    assert separator
    assert repr(url) in message
    assert hint in told


@pytest.mark.parametrize("command", [["serve", "--demo"], ["db", "check"], ["db", "backup", "copy.db"]])
def test_each_command_explains_a_url_with_a_query(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, [*command, "--database", "sqlite:///x.db?mode=ro"])

    assert result.exit_code == 2
    assert "has a query, which perdure does not support hint: use 'sqlite:///x.db'" in " ".join(
        result.stderr.split()
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_a_question_mark_can_be_checked_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.db?mode=ro").write_text("not a database, " * 100)

    result = CliRunner().invoke(app, ["db", "check", "x.db?mode=ro"])

    assert result.exit_code == 1
    assert "is not an SQLite database" in result.stderr
