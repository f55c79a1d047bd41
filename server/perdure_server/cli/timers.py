"""The commands on timers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure_server.cli.console import say
from perdure_server.cli.remote import Session, remote

if TYPE_CHECKING:
    from perdure.client import Timer

_Reference = Annotated[
    str,
    typer.Argument(metavar="REFERENCE", help="The timer, as `schedule-resume` and `timers list` name it."),
]
_RequestId = Annotated[str, typer.Option("--request-id", help="Repeat a call safely by its id.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    timers = typer.Typer(help="Timers that have not acted yet.", no_args_is_help=True, rich_markup_mode=None)
    remote(timers, "list", "perdure timers list", "perdure timers list ID --json")(list_timers)
    remote(timers, "get", "perdure timers get ID.7")(get)
    remote(timers, "cancel", "perdure timers cancel ID.7")(cancel)
    remote(timers, "fire", "perdure timers fire ID.7")(fire)
    app.add_typer(timers, name="timers")


def list_timers(
    session: Session,
    instance_id: Annotated[str, typer.Argument(metavar="ID", help="Only of this instance.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of results (0 = all).")] = 50,
) -> None:
    """List pending timers by due time. A note on stderr says if there are more than --limit."""
    from perdure_server.cli.limited import Limited, page_size_of
    from perdure_server.cli.render import print_json, print_table

    timers = Limited(session.client.list_timers(instance_id, page_size=page_size_of(limit)), limit)
    if session.as_json:
        for timer in timers:
            print_json(timer)
    else:
        print_table(("REFERENCE", "KIND", "STEP", "DUE", "ASKED BY"), map(_row, timers))
    timers.print_note("timers", as_json=session.as_json)


def get(session: Session, reference: _Reference) -> None:
    """Show a pending timer."""
    from perdure_server.cli.render import print_json, print_table

    timer = session.client.get_timer(reference)
    if session.as_json:
        print_json(timer)
    else:
        print_table(("REFERENCE", "KIND", "STEP", "DUE", "ASKED BY"), [_row(timer)])


def cancel(session: Session, reference: _Reference, request_id: _RequestId = "") -> None:
    """Cancel a timeout."""
    from perdure_server.cli.render import print_json

    cancelled = session.client.cancel_timer(reference, request_id=request_id)
    if session.as_json:
        print_json(cancelled)
    else:
        say(f"cancelled at revision {cancelled.revision}")


def fire(session: Session, reference: _Reference, request_id: _RequestId = "") -> None:
    """Make a timer act now, before it is due."""
    from perdure_server.cli.render import print_json

    fired = session.client.fire_timer(reference, request_id=request_id)
    if session.as_json:
        print_json(fired)
    else:
        say(
            f"fired at revision {fired.revision}{'' if fired.used else ', unused: its step had ended or not begun'}"
        )


def _row(timer: Timer) -> tuple[str, ...]:
    from perdure_server.cli.render import time_text

    asked_by = "a client" if timer.client_requested else "the workflow"
    return (timer.reference, timer.kind.value, timer.step_ref or "-", time_text(timer.due_time), asked_by)
