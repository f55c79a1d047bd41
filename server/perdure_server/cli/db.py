"""Commands on a whole database: check, back up and restore."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from perdure_server.cli.console import print_line
from perdure_server.cli.errors import Exit, fail
from perdure_server.cli.param_types import epilog
from perdure_server.cli.session import Session, as_json_option, remote
from perdure_server.config import DATABASE_DEFAULT, DATABASE_MEMORY

if TYPE_CHECKING:
    from perdure_server.store.protocol import Backup as LocalBackup
    from perdure_server.store.sqlite.offline import OfflineDatabase

ISSUES_PRINTED_MAX: Final = 1_000
"""Maximum number of issues that a check prints. One more line reports that there are more."""

ISSUES_SHOWN_MAX: Final = 5
"""Maximum number of issues in the error of a restore."""

BACKUP_TIMEOUT: Final = "1h"

_database_option = click.option(
    "--database",
    envvar="PERDURE_DATABASE",
    show_envvar=True,
    metavar="URL",
    default=DATABASE_DEFAULT,
    help="sqlite:///FILE (relative) or sqlite:////FILE (absolute).",
)


@click.group(no_args_is_help=True)
def db() -> None:
    """Databases: check, back up and restore them."""


@click.command(
    "check",
    epilog=epilog(
        "perdure db check", "perdure db check copy.db", "perdure db check sqlite:////backup/perdure.db"
    ),
)
@click.argument(
    "named", metavar="[DATABASE]", required=False, help="A file, or a URL as --database accepts it."
)
@_database_option
@as_json_option
@click.pass_context
def check(context: click.Context, named: str | None, database: str, as_json: bool) -> None:
    """Check a database: its structure, then every stored column against the history.

    Stop the server first, or check a backup. The check changes nothing. Exits with 1 if there are issues.
    """
    if named is not None:
        source = context.get_parameter_source("database")
        if source is not None and source.name == "COMMANDLINE":  # the environment variable is only a default
            fail("DATABASE and --database both name a database", hint="give one of them")
        database = named
    is_file = named is not None and "://" not in named and named != DATABASE_MEMORY
    in_use = "stop it, or check a backup: `perdure db backup NAME` makes one"
    with _offline(database, is_file=is_file, in_use=in_use) as opened:
        sound = _check(opened, as_json=as_json)
    if not sound:
        raise click.exceptions.Exit(Exit.REJECTED)


@remote(
    "backup",
    "perdure db backup monday.db",
    "perdure db backup monday.db --server 10.0.0.5:7420",
    "perdure db backup /backup/monday.db --database sqlite:///perdure.db",
    timeout=BACKUP_TIMEOUT,
)
@click.argument(
    "name",
    metavar="NAME",
    help="Name of the backup in the server's backup directory; with --database, a file.",
)
@click.option(
    "--database",
    metavar="URL",
    help="Copy this database, which no server has open, instead of calling a server.",
)
def backup(session: Session, name: str, database: str | None) -> None:
    """Write a verified copy of a database, without stopping its server.

    The server writes the copy to its --backup-dir over its open connection. The copy has every acknowledged write,
    even if the database's files were removed. The command returns once the copy is verified and on disk.
    """
    from perdure_server.cli.render import print_json, time_text

    if database is not None:
        copy = _copy(name, database)
        if session.as_json:
            print_json(copy)
        else:
            print_line(f"wrote {copy.path}: {copy.instances} instances, {copy.size_bytes} bytes, verified")
        return
    if os.path.basename(name) != name:
        fail(
            f"NAME {name!r} is a path, but the server chooses the directory (its --backup-dir)",
            hint=f"give a name, like {os.path.basename(name) or 'perdure.db'}; --database URL copies a database "
            "that no server has open to any path",
        )
    written = session.client.backup_database(name, timeout=session.timeout)
    if session.as_json:
        print_json(written)
    else:
        print_line(
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
                code=Exit.REJECTED,
            )
        except BackupFailedError as error:
            fail(str(error), hint="no file was left behind", code=Exit.REJECTED)


@contextmanager
def _offline(database: str, *, in_use: str, is_file: bool = False) -> Iterator[OfflineDatabase]:
    """Open a database that no server has open. Ends the command if it cannot be opened.

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
        fail(f"a server has {error.path} open", hint=in_use, code=Exit.REJECTED)
    except StoreError as error:
        fail(str(error), code=Exit.REJECTED)


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
        if not checked.issues or printed >= ISSUES_PRINTED_MAX:
            continue
        printed += len(checked.issues)
        if as_json:
            print_json(checked)
        else:
            for issue in checked.issues:
                print_line(f"{checked.instance_id or 'database'}: {issue}")
    more = printed >= ISSUES_PRINTED_MAX
    if as_json:
        document = {"instances": instances, "entries": entries, "wrong": wrong, "database_issues": other}
        print_json(document | ({"truncated": True} if more else {}))
    else:
        if more:
            print_line(f"more issues were not printed (the first {printed} are)")
        rest = f"; {other} issues in the rest of the database" if other else ""
        print_line(f"{instances} instances, {entries} entries, {wrong} with issues{rest}")
    return not wrong and not other


@click.command(
    "restore",
    epilog=epilog(
        "perdure db restore monday.db",
        "perdure db restore /backup/monday.db --database sqlite:////var/lib/perdure/shop.db",
    ),
)
@click.argument("copy", metavar="COPY", help="File to restore. It is not changed.")
@_database_option
@as_json_option
def restore(copy: str, database: str, as_json: bool) -> None:
    """Verify a backup and put it in the place of a database.

    Stop the server first. The old files are kept under new names. Writes that were acknowledged after the backup was
    made are not in it.
    """
    from perdure_server.cli.render import print_json
    from perdure_server.store.factory import path_of
    from perdure_server.store.protocol import DatabaseInUseError, StoreError
    from perdure_server.store.sqlite.restore import restore as restore_files

    try:
        path = path_of(database)
    except ValueError as error:
        fail(str(error))
    if path is None:
        fail(f"{database} is not a file", hint="name the database with --database sqlite:///FILE")
    if not os.path.isfile(copy):
        fail(f"{copy} is not a file", hint="name the file of a backup")
    suffix = time.strftime(".replaced-%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        restored = restore_files(copy, path, suffix=suffix, verify=_verify)
    except DatabaseInUseError as error:
        fail(f"a server has {error.path} open", hint="stop it first", code=Exit.REJECTED)
    except StoreError as error:
        fail(str(error), code=Exit.REJECTED)
    if as_json:
        print_json(restored)
        return
    print_line(f"restored {copy} to {restored.path}")
    for kept in restored.kept:
        print_line(f"kept the old file as {kept}")


def _verify(path: str) -> None:
    """Bring the new file to this version's schema and check all of it. Ends the command if there are issues."""
    import asyncio

    from perdure_server.runtime.integrity_check import check_database
    from perdure_server.store.sqlite import SqliteStore
    from perdure_server.store.sqlite.offline import open_offline

    async def migrate() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.close()

    asyncio.run(migrate())
    with open_offline(path) as database:
        found = [
            f"{checked.instance_id or 'database'}: {issue}"
            for checked in check_database(database)
            for issue in checked.issues
        ]
    if found:
        shown = ", ".join(found[:ISSUES_SHOWN_MAX])
        fail(
            f"the copy is damaged: {len(found)} issues: {shown}",
            hint="`perdure db check COPY` lists all of them",
            code=Exit.REJECTED,
        )


for command in (check, backup, restore):
    db.add_command(command)
