"""Commands on a database as a whole: check it, back it up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from perdure_server.cli.console import say
from perdure_server.cli.errors import Exit, fail
from perdure_server.cli.remote import Session, epilog, remote
from perdure_server.cli.restore import register as register_restore
from perdure_server.config import DATABASE_DEFAULT, DATABASE_MEMORY

if TYPE_CHECKING:
    from perdure_server.store.protocol import Backup as LocalBackup
    from perdure_server.store.sqlite.offline import OfflineDatabase

FINDINGS_PRINTED_MAX: Final = 1_000
"""Maximum number of issues that a check prints. One more line counts the others."""

BACKUP_TIMEOUT: Final = "1h"


def register(app: typer.Typer) -> None:
    """Add the group."""
    db = typer.Typer(help="Check and back up databases.", no_args_is_help=True, rich_markup_mode=None)
    db.command(
        "check",
        epilog=epilog(
            "perdure db check", "perdure db check copy.db", "perdure db check sqlite:////backup/perdure.db"
        ),
    )(check)
    register_restore(db)
    remote(
        db,
        "backup",
        "perdure db backup monday.db",
        "perdure db backup monday.db --server 10.0.0.5:7420",
        "perdure db backup /backup/monday.db --database sqlite:///perdure.db",
        timeout=BACKUP_TIMEOUT,
    )(backup)
    app.add_typer(db, name="db")


def check(
    context: typer.Context,
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="DATABASE", help="A file, or a URL as --database takes it.", show_default=False
        ),
    ] = None,
    database: Annotated[
        str,
        typer.Option(
            envvar="PERDURE_DATABASE", help="sqlite:///FILE (relative) or sqlite:////FILE (absolute)."
        ),
    ] = DATABASE_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one document per line.")] = False,
) -> None:
    """Check the file's structure, then compare every stored column with the history.

    Stop the server first, or check a backup. The check changes nothing. Exits with 1 if there are issues.
    """
    if named is not None:
        source = context.get_parameter_source("database")
        if (
            source is not None and source.name == "COMMANDLINE"
        ):  # the variable is a default, and no contradiction
            fail("DATABASE and --database both name a database", hint="give one of them")
        database = named
    is_file = named is not None and "://" not in named and named != DATABASE_MEMORY
    in_use = "stop it, or check a backup: `perdure db backup NAME` makes one"
    with _offline(database, is_file=is_file, in_use=in_use) as opened:
        sound = _check(opened, as_json=as_json)
    if not sound:
        raise typer.Exit(Exit.REFUSED)


def backup(
    session: Session,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the backup in the server's backup directory; with --database, a file.",
        ),
    ],
    database: Annotated[
        str | None,
        typer.Option(help="Copy this database, which no server has open, instead of asking a server."),
    ] = None,
) -> None:
    """Write a verified copy of a database, without stopping its server.

    The server writes the copy into its --backup-dir over its open connection. The copy has every acknowledged write,
    even if the database's files were removed. Returns once the copy is verified and on disk.
    """
    from perdure_server.cli.render import print_json, time_text

    if database is not None:
        copy = _copy(name, database)
        if session.as_json:
            print_json(copy)
        else:
            say(f"wrote {copy.path}: {copy.instances} instances, {copy.size_bytes} bytes, verified")
        return
    if os.path.basename(name) != name:
        fail(
            f"NAME {name!r} is a path, but the server chooses the directory (its --backup-dir)",
            hint=f"give a name, like {os.path.basename(name) or 'perdure.db'}; --database URL copies a database "
            "that no server has open to any path",
        )
    written = session.client.backup_database(name, timeout=session.timeout_seconds)
    if session.as_json:
        print_json(written)
    else:
        say(
            f"the server at {session.server} wrote {written.path}: {written.instances} instances, "
            f"{written.size_bytes} bytes, verified, as of {time_text(written.snapshot_time)}"
        )


def _copy(file: str, database: str) -> LocalBackup:
    """Copy a database that no server has open."""
    from perdure_server.store.protocol import BackupExistsError, BackupFailedError
    from perdure_server.store.sqlite.backup import back_up_offline
    from perdure_server.store.sqlite.store import wall_clock_ms

    in_use = "let the server make the backup: `perdure db backup NAME`, without --database"
    with _offline(database, in_use=in_use) as opened:
        try:
            return back_up_offline(opened.connection, os.path.abspath(file), clock=wall_clock_ms)
        except BackupExistsError as error:
            fail(
                f"{error.path} exists",
                hint="choose another name; a backup never replaces a file",
                code=Exit.REFUSED,
            )
        except BackupFailedError as error:
            fail(str(error), hint="no file was left behind", code=Exit.REFUSED)


@contextmanager
def _offline(database: str, *, in_use: str, is_file: bool = False) -> Iterator[OfflineDatabase]:
    """Open a database that no server has open. Ends the command if that cannot be.

    ``database`` is a URL, or with ``is_file`` the path of a file. ``in_use`` is the hint if a server has it open.
    """
    from perdure_server.store.factory import path_of
    from perdure_server.store.protocol import DatabaseInUseError, StoreError
    from perdure_server.store.sqlite.offline import open_offline

    try:
        path = database if is_file else path_of(database)
    except ValueError as error:
        fail(str(error))
    if path is None or not os.path.isfile(path):
        fail(f"there is no database {database}", hint="name its file, or a URL as --database takes it")
    try:
        with open_offline(path) as opened:
            yield opened
    except DatabaseInUseError as error:
        fail(f"a server has {error.path} open", hint=in_use, code=Exit.REFUSED)
    except StoreError as error:
        fail(str(error), code=Exit.REFUSED)


def _check(database: OfflineDatabase, *, as_json: bool) -> bool:
    from perdure_server.cli.render import print_json
    from perdure_server.runtime.integrity_check import check_database

    instances = entries = wrong = other = printed = 0
    for checked in check_database(database):
        if checked.instance_id or checked.entries:
            instances += 1
            entries += checked.entries
            wrong += bool(checked.issues)
        else:
            other += len(checked.issues)
        if not checked.issues or printed >= FINDINGS_PRINTED_MAX:
            continue
        printed += len(checked.issues)
        if as_json:
            print_json(checked)
        else:
            for issue in checked.issues:
                say(f"{checked.instance_id or 'database'}: {issue}")
    more = printed >= FINDINGS_PRINTED_MAX
    if as_json:
        document = {"instances": instances, "entries": entries, "wrong": wrong, "database_findings": other}
        print_json(document | ({"truncated": True} if more else {}))
    else:
        if more:
            say(f"more issues were not printed (the first {printed} are)")
        rest = f"; {other} issues in the rest of the database" if other else ""
        say(f"{instances} instances, {entries} entries, {wrong} with issues{rest}")
    return not wrong and not other
