"""The commands on instances: the three verbs, and looking at, following, ending and mending instances."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from perdure_server.cli.console import say, say_lines, warn, warn_json
from perdure_server.cli.errors import CommandError, Exit, fail
from perdure_server.cli.param_types import duration_ms_of, json_of, labels_of, object_of, timeout_of
from perdure_server.cli.remote import Session, remote

if TYPE_CHECKING:
    from perdure.client import WatchEvent
    from perdure.errors import PerdureError

WATCH_CONNECT_SECONDS: float = 3.0
"""How long a watch waits for its first answer; from then on it outlives a restart of the server."""

_InstanceId = Annotated[str, typer.Argument(metavar="ID", help="The instance.")]
_WaitTimeout = Annotated[
    str, typer.Option("--wait-timeout", help="How long to wait for its end, as in 30s or 2h; else for ever.")
]
_RequestId = Annotated[str, typer.Option("--request-id", help="Repeat a call safely by its id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    remote(
        app,
        "start",
        """perdure start order --context '{"items": [1, 2]}'""",
        "perdure start order --context @order.json --business-key order-17 --label team=web",
        "perdure start order --start-delay 10m --wait --wait-timeout 1h",
    )(start)
    remote(
        app,
        "resume",
        """perdure resume ID approved --payload '{"by": "Ada"}'""",
        "perdure resume ID reserved --step reserve --buffer",
    )(resume)
    remote(app, "schedule-resume", "perdure schedule-resume ID approval 60000")(schedule_resume)
    remote(app, "get", "perdure get ID", "perdure get ID --json")(get)
    remote(app, "history", "perdure history ID", "perdure history ID --after-revision 12 --json")(history)
    remote(app, "watch", "perdure watch ID", "perdure watch ID --after-revision 0 --plain")(watch)
    remote(app, "cancel", "perdure cancel ID --reason 'ordered twice'")(cancel)
    remote(app, "retry", "perdure retry ID")(retry)
    remote(
        app,
        "list",
        "perdure list --state failed --workflow order",
        "perdure list --workflow order --version 1 --limit 0",
        "perdure list --unconsumed-events --json",
    )(list_instances)
    remote(app, "health", "perdure health --server 127.0.0.1:7420")(health)


def start(
    session: Session,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's name.")],
    context: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE|@-", help="A JSON object that every step can read.")
    ] = None,
    instance_id: Annotated[
        str,
        typer.Option(
            help="The id to give: a letter or digit, then also _ . : -, 128 at most; else the server chooses one."
        ),
    ] = "",
    version: Annotated[int, typer.Option(min=0, help="The workflow's version; 0 is the newest.")] = 0,
    business_key: Annotated[str, typer.Option(help="A key of your own, unique among live instances.")] = "",
    use_existing: Annotated[
        bool, typer.Option("--use-existing", help="Answer with the instance that holds the business key.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="To find it by; may be repeated.")
    ] = None,
    start_delay: Annotated[
        str, typer.Option(help="Time that it stays PENDING, as in 30s or 2h (digits alone: milliseconds).")
    ] = "0ms",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it ends, and show it.")] = False,
    wait_timeout: _WaitTimeout = "",
    request_id: _RequestId = "",
) -> None:
    """Start an instance and print its id."""
    from datetime import timedelta

    from perdure.client import ConflictPolicy

    _wait_seconds(wait_timeout)  # before anything is started
    if wait_timeout and not wait:
        fail("--wait-timeout bounds what --wait waits for", hint="give --wait beside it")

    started = session.client.start_instance(
        workflow,
        object_of(context, "--context"),
        instance_id=instance_id,
        version=version,
        business_key=business_key,
        conflict_policy=ConflictPolicy.USE_EXISTING if use_existing else ConflictPolicy.FAIL,
        start_delay=timedelta(milliseconds=duration_ms_of(start_delay, "--start-delay")),
        labels=labels_of(label or []),
        request_id=request_id,
    )
    _say(session, started, started.instance_id)
    if wait:
        _follow_to_the_end(session, started.instance_id, wait_timeout)


def resume(
    session: Session,
    instance_id: _InstanceId,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's name.")],
    payload: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE|@-", help="Any JSON value; becomes the step's output.")
    ] = None,
    step: Annotated[str, typer.Option(help="Which step, if several wait for the event.")] = "",
    buffer: Annotated[
        bool, typer.Option("--buffer", help="Keep the event if no step waits for it yet.")
    ] = False,
    request_id: _RequestId = "",
) -> None:
    """Bring an event to the step that waits for it."""
    value = json_of(payload, "--payload")
    resumed = session.client.resume(
        instance_id, event, value, step_ref=step, buffer=buffer, request_id=request_id
    )
    where = {"delivered": "to", "buffered": "for"}.get(resumed.disposition.value, "at")
    step_text = resumed.step_ref or "the first step that accepts it"
    _say(session, resumed, f"{resumed.disposition.value} {where} {step_text}, revision {resumed.revision}")


def schedule_resume(
    session: Session,
    instance_id: _InstanceId,
    step: Annotated[str, typer.Argument(metavar="STEP", help="A step with an arrow for the event timeout.")],
    delay_ms: Annotated[
        str, typer.Argument(metavar="DELAY_MS", help="Milliseconds, or a duration such as 30s.")
    ],
    request_id: _RequestId = "",
) -> None:
    """Resume a step with the event `timeout` after a delay, durably, and print the timer's reference.

    A wait's own timeout stays: `perdure timers cancel` takes it away, so that the wait lasts longer. A timer that fires
    before its step has begun is unused, and the step does not time out from it.
    """
    from perdure_server.cli.render import time_text

    scheduled = session.client.schedule_resume(
        instance_id, step, duration_ms_of(delay_ms, "DELAY_MS"), request_id=request_id
    )
    _say(session, scheduled, f"{scheduled.reference}  due {time_text(scheduled.due_time)}")


def get(session: Session, instance_id: _InstanceId) -> None:
    """Show an instance as it is now."""
    _show(session, instance_id)


def history(
    session: Session,
    instance_id: _InstanceId,
    after_revision: Annotated[int, typer.Option(min=0, metavar="REVISION", help="Only what came later.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of entries (0 = all).")] = 0,
) -> None:
    """Show what has happened to an instance, line by line."""
    from perdure_server.cli.limited import Limited, page_size_of
    from perdure_server.cli.render import entry_line, print_json

    listed = session.client.list_history(
        instance_id, after_revision=after_revision, page_size=page_size_of(limit)
    )
    entries = Limited(listed, limit)
    for entry in entries:
        if session.as_json:
            print_json(entry)
        else:
            say(entry_line(entry))
    entries.print_note("entries", as_json=session.as_json)


def watch(
    session: Session,
    instance_id: _InstanceId,
    after_revision: Annotated[
        int | None,
        typer.Option(min=0, metavar="REVISION", help="Begin after this revision; 0: the whole history."),
    ] = None,
    as_lines: Annotated[
        bool, typer.Option("--plain", help="Print lines on a terminal too, as into a file or a pipe.")
    ] = False,
    wait_timeout: _WaitTimeout = "",
) -> None:
    """Follow an instance until it ends. Exit code 5 unless it COMPLETED.

    Goes on when the server restarts. One that stays away is waited for for 5 minutes: stderr says so.

    On a terminal: its steps, each as it stands, redrawn as things happen. Elsewhere: a line for each thing.
    """
    live = not as_lines and not session.as_json and _can_redraw()
    wait_seconds = _wait_seconds(wait_timeout)
    with _bounded(instance_id, wait_timeout):
        _follow(session, instance_id, after_revision, live=live, wait_seconds=wait_seconds)
    state = session.client.get_instance(instance_id).state
    if state.has_ended and state.value != "COMPLETED":
        raise typer.Exit(Exit.NOT_COMPLETED)


def cancel(
    session: Session,
    instance_id: _InstanceId,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
    request_id: _RequestId = "",
) -> None:
    """End an instance; running steps are told to stop."""
    cancelled = session.client.cancel_instance(instance_id, reason=reason, request_id=request_id)
    _say(session, cancelled, f"cancelled at revision {cancelled.revision}")


def retry(session: Session, instance_id: _InstanceId, request_id: _RequestId = "") -> None:
    """Set a FAILED instance going again."""
    retried = session.client.retry_instance(instance_id, request_id=request_id)
    _say(session, retried, f"goes on at revision {retried.revision}")


def list_instances(
    session: Session,
    state: Annotated[
        list[str] | None, typer.Option(help="Only in this state (pending, running, ...); may be repeated.")
    ] = None,
    workflow: Annotated[str, typer.Option(help="Only of this workflow.")] = "",
    version: Annotated[
        int, typer.Option(min=0, help="Only of this version, requires --workflow; 0 is any version.")
    ] = 0,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only with this label; may be repeated.")
    ] = None,
    business_key: Annotated[str, typer.Option(help="Only with this business key.")] = "",
    unconsumed_events: Annotated[
        bool,
        typer.Option("--unconsumed-events", help="Only if it ended with events that no step consumed."),
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of results (0 = all).")] = 50,
) -> None:
    """List instances, newest first. A note on stderr says if there are more than --limit."""
    from perdure_server.cli.limited import Limited, page_size_of
    from perdure_server.cli.render import print_json, print_table, time_text

    if version and not workflow:
        fail(
            f"--version {version} requires --workflow",
            hint="add --workflow NAME, versions belong to a workflow",
        )
    listed = session.client.list_instances(
        states=state or (),
        workflow=workflow,
        version=version,
        labels=labels_of(label or []),
        business_key=business_key,
        unconsumed_events=unconsumed_events,
        page_size=page_size_of(limit),
    )
    instances = Limited(listed, limit)
    if session.as_json:
        for instance in instances:
            print_json(instance)
    else:
        rows = [
            (
                i.instance_id,
                f"{i.workflow} v{i.version}",
                i.state.value,
                i.business_key,
                time_text(i.update_time),
            )
            for i in instances
        ]
        print_table(("INSTANCE", "WORKFLOW", "STATE", "KEY", "UPDATED"), rows)
    instances.print_note("instances", as_json=session.as_json)


def health(session: Session) -> None:
    """Ask whether the server is ready. Exit code 3 if it is not."""
    answer = session.client.check_health()
    _say(session, {"status": answer}, answer.value)
    if answer.value != "SERVING":
        raise typer.Exit(Exit.UNAVAILABLE)


# --- what several of them do -------------------------------------------------------------------------------------


def _say(session: Session, value: object, line: str) -> None:
    if session.as_json:
        from perdure_server.cli.render import print_json

        print_json(value)
    else:
        say(line)


def _show(session: Session, instance_id: str) -> str:
    from perdure_server.cli.render import instance_lines, print_json

    instance = session.client.get_instance(instance_id, raw_json=True)
    if session.as_json:
        print_json(instance)
    else:
        say_lines(instance_lines(instance, now=datetime.now(UTC)))
    return instance.state.value


def _wait_seconds(text: str) -> float | None:
    return timeout_of(text, "--wait-timeout") if text else None


@contextlib.contextmanager
def _bounded(instance_id: str, wait_timeout: str) -> Iterator[None]:
    """Say which bound it was that passed, where a wait has one of its own."""
    from perdure.errors import DeadlineExceededError

    try:
        yield
    except DeadlineExceededError as error:
        if not wait_timeout:
            raise
        raise CommandError(
            f"no end of {instance_id} was seen within {wait_timeout}",
            hint="it goes on; --wait-timeout gives it longer",
            code=Exit.TIMED_OUT,
            reason=error.code,
            document={"code": error.code, "reason": ""},
        ) from None


def _outage_note(session: Session, error: PerdureError | None) -> str:
    if error is None:
        return f"the server at {session.server} answers again"
    return f"the connection to {session.server} is lost; it is waited for, 5 minutes at most"


def _note_outage(session: Session, error: PerdureError | None = None) -> None:
    """Say on stderr that the server is away, or back."""
    note = _outage_note(session, error)
    if session.as_json:
        warn_json(json.dumps({"note": note}))
    else:
        warn(f"perdure: {note}")


def _follow(
    session: Session, instance_id: str, after: int | None, *, live: bool, wait_seconds: float | None
) -> None:
    if live:
        from perdure_server.cli.watch_view import follow_live

        instance = session.client.get_instance(instance_id, raw_json=True)
        # A server has answered: should it go away from here on, it is waited for.
        with session.connect() as client:
            follow_live(
                client,
                lambda on_outage: client.watch_instance(
                    instance_id,
                    after_revision=after,
                    raw_json=True,
                    timeout=wait_seconds,
                    on_disconnect=lambda error: on_outage(_outage_note(session, error)),
                    on_reconnect=lambda: on_outage(""),
                ),
                instance,
            )
        return
    heard = False

    def on_outage(error: PerdureError | None = None) -> None:
        if heard:  # else there was no connection that could be lost
            _note_outage(session, error)

    connect_seconds = min(session.timeout_seconds, WATCH_CONNECT_SECONDS)
    with session.connect(timeout_seconds=connect_seconds) as client:
        for event in client.watch_instance(
            instance_id,
            after_revision=after,
            raw_json=True,
            timeout=wait_seconds,
            on_disconnect=on_outage,
            on_reconnect=on_outage,
        ):
            heard = True
            _print_event(session, event)


def _can_redraw() -> bool:
    if not sys.stdout.isatty():
        return False
    from rich.console import Console

    return not Console().is_dumb_terminal


def _print_event(session: Session, event: WatchEvent) -> None:
    from perdure.client import HistoryEntry, Snapshot, WatchEnd
    from perdure_server.cli.render import entry_line, instance_lines, print_json

    document: dict[str, Any]
    match event:
        case Snapshot():
            document = {"snapshot": event.instance}
            lines = instance_lines(event.instance, now=datetime.now(UTC))
        case HistoryEntry():
            document, lines = {"entry": event}, [entry_line(event)]
        case WatchEnd():
            document, lines = {"end": event}, []
        case _:
            assert_never(event)
    if session.as_json:
        print_json(document)
    else:
        say_lines(lines)


def _follow_to_the_end(session: Session, instance_id: str, wait_timeout: str) -> None:
    wait_seconds = _wait_seconds(wait_timeout)
    with _bounded(instance_id, wait_timeout), session.connect() as client:
        client.wait_for_end(
            instance_id,
            timeout=wait_seconds,
            on_disconnect=functools.partial(_note_outage, session),
            on_reconnect=functools.partial(_note_outage, session),
        )
    state = _show(session, instance_id)
    if state != "COMPLETED":
        hint = f"`perdure history {instance_id}` tells why"
        fail(f"{instance_id} ended {state}", hint=hint, code=Exit.NOT_COMPLETED)
