"""`perdure db check`, on files that a real core wrote, sound and damaged."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from contract.runner_flows import FLOWS
from perdure_server.cli.main import app
from perdure_server.core import Core
from perdure_server.engine.commands import payload
from perdure_server.store.factory import open_store


async def _write(url: str) -> str:
    core = Core(open_store(url), FLOWS)
    await core.start()
    started = await core.operations.start_instance(
        workflow="approval", context=payload('{"name":"Ada"}'), instance_id="checked-1"
    )
    await core.stop(0)
    return started.instance_id


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "perdure.db"
    asyncio.run(_write(f"sqlite:///{path}"))
    return path


def check(path: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["db", "check", "--database", f"sqlite:///{path}", *more])


def damage(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()


def test_a_sound_database_has_no_findings(database: Path) -> None:
    result = check(database)

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1 instances, ")
    assert result.stdout.endswith(" 0 with issues\n")


@pytest.mark.parametrize(
    ("statement", "issue"),
    [
        ("DELETE FROM history WHERE revision = 2", "goes from revision 1 to 3"),
        ("UPDATE history SET at = at + 1 WHERE revision = 1", "does not fold to its state: "),
        ("DELETE FROM payloads WHERE revision = 1", "payload of revision 1: missing"),
        ("""UPDATE payloads SET body = '{"name":"Eve"}'""", "payload of revision 1: differs from the digest"),
        ("DELETE FROM timers", "timers 3: missing"),
    ],
    ids=["gap", "state", "missing", "changed", "timer"],
)
def test_damage_is_found_and_named(database: Path, statement: str, issue: str) -> None:
    damage(database, statement)

    result = check(database)

    assert result.exit_code == 1
    assert issue in result.stdout


def test_json_gives_a_document_per_finding_and_the_sum(database: Path) -> None:
    damage(database, "DELETE FROM timers")

    lines = [json.loads(line) for line in check(database, "--json").stdout.splitlines()]

    assert lines[0]["instance_id"] == "checked-1"
    assert lines[-1]["wrong"] == 1


@pytest.mark.parametrize("as_url", [False, True])
def test_the_database_may_be_named_by_its_file_or_its_url(database: Path, as_url: bool) -> None:
    named = f"sqlite:///{database}" if as_url else str(database)

    result = CliRunner().invoke(app, ["db", "check", named])

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1 instances, ")


def test_a_file_of_the_working_folder_is_named_by_its_name(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)

    assert CliRunner().invoke(app, ["db", "check", database.name]).exit_code == 0


def test_a_database_that_is_named_wins_over_the_variable(database: Path) -> None:
    runner = CliRunner(env={"PERDURE_DATABASE": "sqlite:///nowhere.db"})

    assert runner.invoke(app, ["db", "check"]).exit_code == 2
    assert runner.invoke(app, ["db", "check", str(database)]).exit_code == 0


def test_a_database_that_is_named_twice_is_a_usage_error(database: Path) -> None:
    result = check(database, str(database))

    assert result.exit_code == 2
    assert result.stderr == (
        "perdure: error: DATABASE and --database both name a database\nhint: give one of them\n"
    )


@pytest.mark.parametrize("named", ["postgresql://here/perdure", "", ":memory:", "sqlite:///", "no/such.db"])
def test_an_invalid_database_is_a_usage_error(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["db", "check", named])

    assert result.exit_code == 2
    assert result.stderr.startswith("perdure: error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    result = check(tmp_path / "nowhere.db")

    assert result.exit_code == 2
    assert "there is no database" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", ["sound", "no database", "no page is right", "another program's"])
def test_a_check_leaves_nothing_new_but_the_locks_file(database: Path, case: str) -> None:
    match case:
        case "no database":
            database.write_text("dear diary, " * 100)
        case "no page is right":
            database.write_bytes(database.read_bytes()[:4096] + b"\xff" * (database.stat().st_size - 4096))
        case "another program's":
            damage(database, "PRAGMA application_id = 7")

    result = check(database)

    assert result.exit_code == (0 if case == "sound" else 1), result.output
    assert sorted(path.name for path in database.parent.iterdir()) == ["perdure.db", "perdure.db.lock"]
