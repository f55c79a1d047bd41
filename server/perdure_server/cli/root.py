"""The tree of commands. Each group is a module; this one only puts them together."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure_server.cli import db, instances, serve, timers, workflows
from perdure_server.cli.console import say
from perdure_server.cli.errors import EXIT_HELP
from perdure_server.cli.main import Program

app = typer.Typer(
    name="perdure",
    cls=Program,
    help="Durable workflow instances behind a gRPC API.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,  # help is plain text: it shows examples as they are typed, and needs no import
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import perdure

        say(f"perdure {perdure.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


serve.register(app)
instances.register(app)
timers.register(app)
workflows.register(app)
db.register(app)
