"""The outermost layer of the program: whatever a command ends with, its error is one line, or a JSON document."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import typer
from typer.core import TyperGroup

from perdure_server.cli.errors import CommandError, Exit

_UsageError: Final[Any] = typer.BadParameter.__base__
"""What the command line's parser raises. Typer may bring a click of its own, so this is no class to import."""

_AS_JSON: Final = f"{__name__}.as_json"


class Program(TyperGroup):
    """The group of all commands. ``--json`` anywhere on the command line asks for documents, even where it is wrong."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        """See click. Raises `typer.Exit` after the error was printed."""
        as_json = "--json" in args
        with _told(as_json=as_json):
            context = super().make_context(info_name, args, *more, **extra)
        context.meta[_AS_JSON] = as_json
        return context

    def invoke(self, ctx: Any) -> Any:
        """See click. Raises `typer.Exit` after the error was printed."""
        with _told(as_json=ctx.meta[_AS_JSON]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _told(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        failed = error
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError" and not as_json:
            raise  # a group by itself is a question, and its help the answer
        failed = _usage(error)
    else:
        return
    failed.tell(as_json=as_json)
    raise typer.Exit(failed.code) from None


def _usage(error: Any) -> CommandError:
    command = error.ctx.command_path if error.ctx is not None else "perdure"
    if type(error).__name__ == "NoArgsIsHelpError":
        return CommandError("Missing command", hint=f"see {command} --help", code=Exit.USAGE)
    what, _, hint = error.format_message().partition("; ")
    see = f"see {command} --help"
    return CommandError(what.removesuffix("."), hint=f"{hint}; {see}" if hint else see, code=Exit.USAGE)
