"""The tree of commands, and the handler that maps their exceptions to an error message and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

import click

from perdure_server.cli import db, instances, serve, timers, workflows
from perdure_server.cli.console import print_line
from perdure_server.cli.errors import EXIT_HELP, CommandError, Exit


class Program(click.Group):
    """The group of all commands.

    With ``--json`` anywhere on the command line, errors are JSON documents, even if the command line is invalid.
    """

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> NoReturn:
        """Run a command and exit with its code, see `Exit`."""
        arguments = sys.argv[1:] if args is None else list(args)
        with _printed_errors(as_json="--json" in arguments):
            code = super().main(arguments, *more, **extra | {"standalone_mode": False})
            sys.exit(code or Exit.OK)


@contextlib.contextmanager
def _printed_errors(*, as_json: bool) -> Iterator[None]:
    try:
        yield
        return
    except CommandError as error:
        failed = error
    except click.exceptions.NoArgsIsHelpError as error:
        if not as_json:
            error.show()
            sys.exit(Exit.USAGE)
        failed = CommandError("Missing command", hint=_see(error), code=Exit.USAGE)
    except click.UsageError as error:
        what, _, hint = error.format_message().partition("; ")
        see = _see(error)
        failed = CommandError(what.removesuffix("."), hint=f"{hint}; {see}" if hint else see, code=Exit.USAGE)
    except click.Abort:
        sys.exit(Exit.INTERRUPTED)
    failed.report(as_json=as_json)
    sys.exit(failed.code)


def _see(error: click.UsageError) -> str:
    return f"see {error.ctx.command_path if error.ctx is not None else 'perdure'} --help"


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        import perdure

        print_line(f"perdure {perdure.__version__}")
        context.exit()


_SETTINGS: Final = {"show_default": True, "max_content_width": 100}


@click.group(
    cls=Program,
    name="perdure",
    help="Durable workflow instances behind a gRPC API.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    context_settings=_SETTINGS,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def app() -> None:
    """Group of all commands."""


for command in (
    serve.serve,
    *instances.COMMANDS,
    timers.timers,
    workflows.workflows,
    db.db,
):
    app.add_command(command)
