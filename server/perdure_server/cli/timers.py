"""Commands on timers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from perdure_server.cli.console import print_line
from perdure_server.cli.session import Session, limit_option, remote, request_id_option

if TYPE_CHECKING:
    from perdure.client import Timer

_HEAD = ("REFERENCE", "KIND", "STEP", "DUE", "REQUESTED BY")

_reference = click.argument(
    "reference", metavar="REFERENCE", help="Reference of the timer, as `timers list` prints it."
)


@click.group(no_args_is_help=True)
def timers() -> None:
    """Pending timers: list, cancel and fire them."""


@remote("list", "perdure timers list", "perdure timers list ID --json")
@click.argument(
    "instance_id", metavar="[ID]", required=False, default="", help="Only timers of this instance."
)
@limit_option(default=50)
def list_timers(session: Session, instance_id: str, limit: int) -> None:
    """List pending timers by due time. A note on stderr says if there are more than --limit."""
    from perdure_server.cli.render import Limited, page_size_of, print_json, print_table

    listed = Limited(session.client.list_timers(instance_id, page_size=page_size_of(limit)), limit)
    if session.as_json:
        for timer in listed:
            print_json(timer)
    else:
        print_table(_HEAD, map(_row, listed))
    listed.print_note("timers", as_json=session.as_json)


@remote("get", "perdure timers get ID.7")
@_reference
def get(session: Session, reference: str) -> None:
    """Show a pending timer."""
    from perdure_server.cli.render import print_json, print_table

    timer = session.client.get_timer(reference)
    if session.as_json:
        print_json(timer)
    else:
        print_table(_HEAD, [_row(timer)])


@remote("cancel", "perdure timers cancel ID.7")
@_reference
@request_id_option
def cancel(session: Session, reference: str, request_id: str | None) -> None:
    """Cancel a timer of kind timeout."""
    from perdure_server.cli.render import print_json

    cancelled = session.client.cancel_timer(reference, request_id=request_id)
    if session.as_json:
        print_json(cancelled)
    else:
        print_line(f"cancelled at revision {cancelled.revision}")


@remote("fire", "perdure timers fire ID.7")
@_reference
@request_id_option
def fire(session: Session, reference: str, request_id: str | None) -> None:
    """Fire a timer now, before it is due."""
    from perdure_server.cli.render import print_json

    fired = session.client.fire_timer(reference, request_id=request_id)
    if session.as_json:
        print_json(fired)
    else:
        unused = "" if fired.used else ", unused: its step had finished or had not started"
        print_line(f"fired at revision {fired.revision}{unused}")


for command in (list_timers, get, cancel, fire):
    timers.add_command(command)


def _row(timer: Timer) -> tuple[str, ...]:
    from perdure_server.cli.render import time_text

    requested_by = "a client" if timer.client_requested else "the workflow"
    return (timer.reference, timer.kind.value, timer.step_ref or "-", time_text(timer.due_time), requested_by)
