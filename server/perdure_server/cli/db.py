"""The commands on a database that no server has open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure_server.cli.exits import Exit, fail
from perdure_server.cli.remote import epilog
from perdure_server.cli.restore import register as register_restore
from perdure_server.config import DATABASE_DEFAULT, DATABASE_MEMORY

if TYPE_CHECKING:
    from perdure_server.store.protocol import Store


def register(app: typer.Typer) -> None:
    """Add the group."""
    db = typer.Typer(help="A database that no server has open.", no_args_is_help=True, rich_markup_mode=None)
    db.command(
        "check",
        epilog=epilog(
            "perdure db check", "perdure db check copy.db", "perdure db check sqlite:////backup/perdure.db"
        ),
    )(check)
    register_restore(db)
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
    """Fold every history anew and compare it with what is stored.

    Stop the server first, or check a copy. Exits with 1 if anything differs.
    """
    import asyncio

    from perdure_server.store.open import database_exists, open_store
    from perdure_server.store.protocol import DatabaseInUse, StoreError

    if named is not None:
        source = context.get_parameter_source("database")
        if (
            source is not None and source.name == "COMMANDLINE"
        ):  # the variable is a default, and no contradiction
            fail("DATABASE and --database both name a database", mend="give one of them")
        database = _url_of(named)
    try:
        store, exists = open_store(database), database_exists(database)
    except ValueError as error:
        fail(str(error))
    if not exists:
        fail(
            f"there is no database {named or database}", mend="name its file, or a URL as --database takes it"
        )
    try:
        sound = asyncio.run(_check(store, as_json=as_json))
    except DatabaseInUse as error:
        fail(f"a server has {error.path} open", mend="stop it, or check a copy", code=Exit.REFUSED)
    except StoreError as error:
        fail(str(error), code=Exit.REFUSED)
    if not sound:
        raise typer.Exit(Exit.REFUSED)


def _url_of(named: str) -> str:
    """Return the URL of a database that is named by it, or by a file."""
    return named if "://" in named or named == DATABASE_MEMORY else f"sqlite:///{named}"


async def _check(store: Store, *, as_json: bool) -> bool:
    from perdure_server.cli.output import print_json
    from perdure_server.runtime.check import check_store

    instances = entries = wrong = 0
    await store.open()
    try:
        async for checked in check_store(store):
            instances += 1
            entries += checked.entries
            wrong += bool(checked.findings)
            if checked.findings and as_json:
                print_json(checked)
            for finding in () if as_json else checked.findings:
                print(f"{checked.instance_id}: {finding}")
    finally:
        await store.close()
    if as_json:
        print_json({"instances": instances, "entries": entries, "wrong": wrong})
    else:
        print(f"{instances} instances, {entries} entries, {wrong} with findings")
    return wrong == 0
