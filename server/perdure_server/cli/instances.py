"""Commands on instances: start, resume, show, watch, list, cancel and retry."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, assert_never

import click

from perdure_server.cli.console import print_line, print_lines, warn, warn_json
from perdure_server.cli.errors import CommandError, Exit, fail
from perdure_server.cli.param_types import LABEL, TIMEOUT, Json, Milliseconds, labels_of
from perdure_server.cli.session import Session, limit_option, remote, request_id_option

if TYPE_CHECKING:
    from perdure.client import RawJson, WatchEvent
    from perdure.errors import PerdureError

WATCH_CONNECT_SECONDS: float = 3.0
"""Maximum time for the first response of a watch, in seconds. After it, a watch outlives a restart of the server."""

Labels = tuple[tuple[str, str], ...]

_instance_id = click.argument("instance_id", metavar="ID", help="Instance ID.")
_wait_timeout = click.option(
    "--wait-timeout",
    type=TIMEOUT,
    help="Maximum time to wait for the end, as in 30s or 2h. Default: no limit.",
)


@remote(
    "start",
    """perdure start order --context '{"items": [1, 2]}'""",
    "perdure start order --context @order.json --business-key order-17 --label team=web",
    "perdure start order --start-delay 10m --wait --wait-timeout 1h",
)
@click.argument("workflow", metavar="WORKFLOW", help="Name of the workflow.")
@click.option("--context", type=Json(must_be_object=True), help="JSON object that every step can read.")
@click.option(
    "--instance-id",
    metavar="ID",
    help="ID of the instance: a letter or digit, then also _ . : -, at most 128. Default: a new UUID.",
)
@click.option("--version", type=click.IntRange(min=0), default=0, help="Workflow version (0 = the newest).")
@click.option(
    "--business-key", metavar="KEY", help="Your own key, unique among live instances of the workflow."
)
@click.option("--use-existing", is_flag=True, help="Return the instance that holds the business key, if any.")
@click.option("--label", type=LABEL, multiple=True, help="Label to attach (repeatable).")
@click.option(
    "--start-delay",
    type=Milliseconds(),
    default="0ms",
    help="Time that the instance stays PENDING, as in 30s or 2h (digits only: milliseconds).",
)
@click.option("--wait", is_flag=True, help="Wait until the instance ends, and show it.")
@_wait_timeout
@request_id_option
def start(
    session: Session,
    workflow: str,
    context: RawJson | None,
    instance_id: str | None,
    version: int,
    business_key: str | None,
    use_existing: bool,
    label: Labels,
    start_delay: int,
    wait: bool,
    wait_timeout: float | None,
    request_id: str | None,
) -> None:
    """Start an instance and print its ID."""
    from datetime import timedelta

    from perdure.client import ConflictPolicy

    if wait_timeout is not None and not wait:
        fail("--wait-timeout limits --wait, which is missing", hint="add --wait")

    started = session.client.start_instance(
        workflow,
        context,
        instance_id=instance_id,
        version=version or None,
        business_key=business_key,
        conflict_policy=ConflictPolicy.USE_EXISTING if use_existing else ConflictPolicy.FAIL,
        start_delay=timedelta(milliseconds=start_delay),
        labels=labels_of(label),
        request_id=request_id,
    )
    _print_result(session, started, started.instance_id)
    if wait:
        _follow_to_end(session, started.instance_id, wait_timeout)


@remote(
    "resume",
    """perdure resume ID approved --payload '{"by": "Ada"}'""",
    "perdure resume ID reserved --step reserve --buffer",
)
@_instance_id
@click.argument("event", metavar="EVENT", help="Name of the event.")
@click.option("--payload", type=Json(), help="Any JSON value. It becomes the step's output.")
@click.option("--step", metavar="STEP", help="Step to resume, if several wait for the event.")
@click.option("--buffer", is_flag=True, help="Keep the event if no step waits for it yet.")
@request_id_option
def resume(
    session: Session,
    instance_id: str,
    event: str,
    payload: RawJson | None,
    step: str | None,
    buffer: bool,
    request_id: str | None,
) -> None:
    """Send an event to the step that waits for it."""
    resumed = session.client.resume(
        instance_id, event, payload, step_ref=step, buffer=buffer, request_id=request_id
    )
    where = {"delivered": "to", "buffered": "for"}.get(resumed.disposition.value, "at")
    step_text = resumed.step_ref or "the first step that accepts it"
    _print_result(
        session, resumed, f"{resumed.disposition.value} {where} {step_text}, revision {resumed.revision}"
    )


@remote("schedule-resume", "perdure schedule-resume ID approval 60000")
@_instance_id
@click.argument("step", metavar="STEP", help="A step with a transition for the event timeout.")
@click.argument(
    "delay_ms", metavar="DELAY_MS", type=Milliseconds(), help="Milliseconds, or a duration such as 30s."
)
@request_id_option
def schedule_resume(
    session: Session, instance_id: str, step: str, delay_ms: int, request_id: str | None
) -> None:
    """Resume a step with the event `timeout` after a delay, and print the timer's reference.

    The step's own timeout stays. Cancel it with `perdure timers cancel` to make the wait last longer. A timer that
    fires before its step has started is unused: the step does not time out from it.
    """
    from perdure_server.cli.render import time_text

    scheduled = session.client.schedule_resume(instance_id, step, delay_ms, request_id=request_id)
    _print_result(session, scheduled, f"{scheduled.reference}  due {time_text(scheduled.due_time)}")


@remote("get", "perdure get ID", "perdure get ID --json")
@_instance_id
def get(session: Session, instance_id: str) -> None:
    """Show the current state of an instance."""
    _show(session, instance_id)


@remote("history", "perdure history ID", "perdure history ID --after-revision 12 --json")
@_instance_id
@click.option(
    "--after-revision",
    type=click.IntRange(min=0),
    metavar="REVISION",
    default=0,
    help="Print only later entries.",
)
@limit_option(default=0)
def history(session: Session, instance_id: str, after_revision: int, limit: int) -> None:
    """Print the history of an instance, one line per entry."""
    from perdure_server.cli.render import Limited, entry_line, page_size_of, print_json

    listed = session.client.list_history(
        instance_id, after_revision=after_revision, page_size=page_size_of(limit)
    )
    entries = Limited(listed, limit)
    for entry in entries:
        if session.as_json:
            print_json(entry)
        else:
            print_line(entry_line(entry))
    entries.print_note("entries", as_json=session.as_json)


@remote("watch", "perdure watch ID", "perdure watch ID --after-revision 0 --plain")
@_instance_id
@click.option(
    "--after-revision",
    type=click.IntRange(min=0),
    metavar="REVISION",
    help="Start after this revision (0 = the whole history). Default: start with the current state.",
)
@click.option(
    "--plain", "as_lines", is_flag=True, help="Print lines on a terminal too, as for a file or a pipe."
)
@_wait_timeout
def watch(
    session: Session,
    instance_id: str,
    after_revision: int | None,
    as_lines: bool,
    wait_timeout: float | None,
) -> None:
    """Follow an instance until it ends. Exits with 5 unless it COMPLETED.

    The watch continues when the server restarts. If the server is unreachable, the command waits up to 5 minutes and
    reports it on stderr.

    On a terminal, the command draws the steps and redraws them on each change. Elsewhere, it prints one line per
    history entry.
    """
    live = not as_lines and not session.as_json and _can_redraw()
    with _bounded(instance_id, wait_timeout):
        _follow(session, instance_id, after_revision, live=live, wait_seconds=wait_timeout)
    state = session.client.get_instance(instance_id).state
    if state.has_ended and state.value != "COMPLETED":
        raise click.exceptions.Exit(Exit.NOT_COMPLETED)


@remote("cancel", "perdure cancel ID --reason 'ordered twice'")
@_instance_id
@click.option("--reason", metavar="TEXT", help="Reason, kept in the history.")
@request_id_option
def cancel(session: Session, instance_id: str, reason: str | None, request_id: str | None) -> None:
    """Cancel an instance. Running steps are asked to stop."""
    cancelled = session.client.cancel_instance(instance_id, reason=reason, request_id=request_id)
    _print_result(session, cancelled, f"cancelled at revision {cancelled.revision}")


@remote("retry", "perdure retry ID")
@_instance_id
@request_id_option
def retry(session: Session, instance_id: str, request_id: str | None) -> None:
    """Retry a FAILED instance from its failed steps."""
    retried = session.client.retry_instance(instance_id, request_id=request_id)
    _print_result(session, retried, f"continues at revision {retried.revision}")


@remote(
    "list",
    "perdure list --state failed --workflow order",
    "perdure list --workflow order --version 1 --limit 0",
    "perdure list --unconsumed-events --json",
)
@click.option(
    "--state", metavar="STATE", multiple=True, help="Only this state: pending, running, ... (repeatable)."
)
@click.option("--workflow", metavar="WORKFLOW", help="Only this workflow.")
@click.option(
    "--version",
    type=click.IntRange(min=0),
    default=0,
    help="Only this version, requires --workflow (0 = any version).",
)
@click.option("--label", type=LABEL, multiple=True, help="Only instances with this label (repeatable).")
@click.option("--business-key", metavar="KEY", help="Only this business key.")
@click.option(
    "--unconsumed-events", is_flag=True, help="Only instances that ended with events that no step consumed."
)
@limit_option(default=50)
def list_instances(
    session: Session,
    state: tuple[str, ...],
    workflow: str | None,
    version: int,
    label: Labels,
    business_key: str | None,
    unconsumed_events: bool,
    limit: int,
) -> None:
    """List instances, newest first. A note on stderr says if there are more than --limit."""
    from perdure_server.cli.render import Limited, page_size_of, print_json, print_table, time_text

    if version and not workflow:
        fail(
            f"--version {version} requires --workflow",
            hint="add --workflow NAME; versions belong to a workflow",
        )
    listed = session.client.list_instances(
        states=state,
        workflow=workflow,
        version=version or None,
        labels=labels_of(label),
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


@remote("health", "perdure health --server 127.0.0.1:7420")
def health(session: Session) -> None:
    """Print the health of the server. Exits with 3 if it is not ready."""
    health = session.client.check_health()
    _print_result(session, {"status": health}, health.value)
    if health.value != "SERVING":
        raise click.exceptions.Exit(Exit.UNAVAILABLE)


COMMANDS: Final = (start, resume, schedule_resume, get, history, watch, cancel, retry, list_instances, health)


# --- shared by several commands ----------------------------------------------------------------------------------


def _print_result(session: Session, value: object, line: str) -> None:
    if session.as_json:
        from perdure_server.cli.render import print_json

        print_json(value)
    else:
        print_line(line)


def _show(session: Session, instance_id: str) -> str:
    from perdure_server.cli.render import instance_lines, print_json

    instance = session.client.get_instance(instance_id, raw_json=True)
    if session.as_json:
        print_json(instance)
    else:
        print_lines(instance_lines(instance, now=datetime.now(UTC)))
    return instance.state.value


@contextlib.contextmanager
def _bounded(instance_id: str, wait_timeout: float | None) -> Iterator[None]:
    """Report a wait that exceeded ``wait_timeout``, in seconds."""
    from perdure.errors import DeadlineExceededError

    try:
        yield
    except DeadlineExceededError as error:
        if wait_timeout is None:
            raise
        raise CommandError(
            f"instance {instance_id!r} did not end within {wait_timeout:g} s",
            hint="the instance continues; wait longer with --wait-timeout",
            code=Exit.TIMED_OUT,
            reason=error.code,
            document={"code": error.code, "reason": ""},
        ) from None


def _outage_note(session: Session, error: PerdureError | None) -> str:
    if error is None:
        return f"the server at {session.server} responds again"
    return f"the connection to {session.server} is lost; waiting for up to 5 minutes"


def _note_outage(session: Session, error: PerdureError | None = None) -> None:
    """Print on stderr that the connection is lost, or that the server responds again."""
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
        # The server has responded. If the connection is lost from now on, the watch waits for it.
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
    connected = False

    def on_outage(error: PerdureError | None = None) -> None:
        if connected:  # otherwise there was no connection to lose
            _note_outage(session, error)

    connect_seconds = min(session.timeout, WATCH_CONNECT_SECONDS)
    with session.connect(timeout_seconds=connect_seconds) as client:
        for event in client.watch_instance(
            instance_id,
            after_revision=after,
            raw_json=True,
            timeout=wait_seconds,
            on_disconnect=on_outage,
            on_reconnect=on_outage,
        ):
            connected = True
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
        print_lines(lines)


def _follow_to_end(session: Session, instance_id: str, wait_timeout: float | None) -> None:
    with _bounded(instance_id, wait_timeout), session.connect() as client:
        client.wait_for_end(
            instance_id,
            timeout=wait_timeout,
            on_disconnect=functools.partial(_note_outage, session),
            on_reconnect=functools.partial(_note_outage, session),
        )
    state = _show(session, instance_id)
    if state != "COMPLETED":
        hint = f"show what happened with `perdure history {instance_id}`"
        fail(f"{instance_id} ended {state}", hint=hint, code=Exit.NOT_COMPLETED)
