"""``perdure db restore``: put a backup in the place of the database that a server serves."""

from __future__ import annotations

import os
import time
from typing import Annotated, Final

import typer

from perdure_server.cli.console import say
from perdure_server.cli.errors import Exit, fail
from perdure_server.cli.remote import epilog
from perdure_server.config import DATABASE_DEFAULT

FINDINGS_SHOWN_MAX: Final = 5


def register(db: typer.Typer) -> None:
    """Add the command."""
    db.command(
        "restore",
        epilog=epilog(
            "perdure db restore monday.db",
            "perdure db restore /backup/monday.db --database sqlite:////var/lib/perdure/shop.db",
        ),
    )(restore)


def restore(
    copy: Annotated[str, typer.Argument(metavar="COPY", help="File to restore. It is not changed.")],
    database: Annotated[
        str,
        typer.Option(
            envvar="PERDURE_DATABASE", help="sqlite:///FILE (relative) or sqlite:////FILE (absolute)."
        ),
    ] = DATABASE_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one document per line.")] = False,
) -> None:
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
        fail(f"a server has {error.path} open", hint="stop it first", code=Exit.REFUSED)
    except StoreError as error:
        fail(str(error), code=Exit.REFUSED)
    if as_json:
        print_json(restored)
        return
    say(f"restored {copy} to {restored.path}")
    for kept in restored.kept:
        say(f"kept the old file as {kept}")


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
        shown = ", ".join(found[:FINDINGS_SHOWN_MAX])
        fail(
            f"the copy is damaged: {len(found)} issues: {shown}",
            hint="`perdure db check COPY` lists all of them",
            code=Exit.REFUSED,
        )
