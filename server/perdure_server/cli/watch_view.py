"""``perdure watch`` on a terminal: the current state of each step, redrawn on every history entry.

The view does not compute states. It gets the instance from the server again for each entry with a newer revision.
Between entries rich redraws the view, so that the times to deadlines count down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from perdure.client import HistoryEntry, Snapshot
from perdure_server.cli.console import escape
from perdure_server.cli.render import entry_line, one_line, result_text, time_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from perdure.client import ActiveStep, Client, Instance, WatchEvent

ENTRIES_SHOWN: Final = 6
"""Number of history entries that the view shows below the steps, the newest ones."""

REDRAWS_PER_SECOND: Final = 4.0

OUTAGE_SECONDS_MAX: Final = 300.0
"""Timeout for getting the instance, in seconds. Equal to the default reconnect timeout of a watch."""

NOT_STARTED: Final = "-"

_STYLES: Final = {
    "RUNNING": "bold cyan",
    "QUEUED": "cyan",
    "WAITING": "yellow",
    "SLEEPING": "yellow",
    "JOINING": "yellow",
    "BACKING_OFF": "magenta",
    "NO_WORKER": "bold magenta",
    "FINISHED": "green",
    "COMPLETED": "bold green",
    "FAILED": "bold red",
    "INTERRUPTED": "red",
    "CANCELLED": "bold red",
}
_FAINT: Final = "dim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Row of the view for a step. ``due`` is the deadline of its timer, if any."""

    step_ref: str
    state: str = NOT_STARTED
    attempt: int = 0
    due: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """Contents of the screen. Each redraw computes the remaining time to each deadline."""

    instance: Instance
    refs: Sequence[str]
    entries: Sequence[HistoryEntry] = ()
    note: str = ""

    def __rich__(self) -> Group:
        """Return the view as a renderable of rich."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        one, now = self.instance, datetime.now(UTC)
        head = Text.assemble(
            escape(f"{one.instance_id}  {one.workflow} v{one.version}  "),
            _styled(one.state.value),
            f"  revision {one.revision}",
        )
        steps = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("STEP", "STATUS", "ATTEMPT", "DUE"):
            steps.add_column(name, overflow="ellipsis", no_wrap=True)
        # On a narrow terminal the notes are shortened first: rich only narrows columns that can wrap.
        steps.add_column("", overflow="ellipsis", no_wrap=False)
        for row in step_rows(one, self.refs):
            steps.add_row(
                Text(escape(row.step_ref), style=_FAINT if row.state == NOT_STARTED else ""),
                _styled(row.state),
                str(row.attempt or ""),
                due_text(row.due, now),
                Text(escape(row.note), overflow="ellipsis", no_wrap=True),
            )
        lines = [
            Text(escape(entry_line(entry)), style=_FAINT, overflow="ellipsis", no_wrap=True)
            for entry in self.entries
        ]
        if self.note:
            lines.append(Text(escape(self.note), style="bold red", overflow="ellipsis", no_wrap=True))
        return Group(head, Text(), steps, Text(), *lines)


def step_rows(instance: Instance, refs: Sequence[str]) -> list[Row]:
    """Return a row for each step: the steps of ``refs`` in this order, then other steps of the instance."""
    rows = {ref: Row(step_ref=ref) for ref in refs}
    for active in instance.active_steps:
        rows[active.step_ref] = Row(
            step_ref=active.step_ref,
            state=active.state.value,
            attempt=active.attempt,
            due=active.deadline,
            note=_note(active),
        )
    for result in instance.step_results:
        before = rows.get(result.step_ref, Row(step_ref=result.step_ref))
        rows[result.step_ref] = replace(
            before,
            state=result.state.value,
            due=None,
            note=result_text(instance, result.step_ref, result.event) or before.note,
        )
    return list(rows.values())


def due_text(due: datetime | None, now: datetime) -> str:
    """Return a deadline and the remaining time, by the local clock."""
    if due is None:
        return ""
    seconds = int((due - now).total_seconds())
    if seconds <= 0:
        return f"{time_text(due)} (now)"
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    clock = f"{hours:02}:{rest // 60:02}:{rest % 60:02}"
    return f"{time_text(due)} (in {f'{days}d ' if days else ''}{clock})"


def follow_live(
    client: Client, watch: Callable[[Callable[[str], None]], Iterator[WatchEvent]], instance: Instance
) -> None:
    """Show an instance until its watch ends. The last view stays on the screen.

    ``watch`` starts the watch. Its argument is a function that shows a note, for example about a lost connection. An
    empty note removes it.
    """
    from rich.live import Live

    entries: deque[HistoryEntry] = deque(maxlen=ENTRIES_SHOWN)
    refs = _refs(client, instance)
    with Live(View(instance, refs), refresh_per_second=REDRAWS_PER_SECOND, redirect_stderr=False) as live:

        def note(text: str) -> None:
            live.update(View(instance, refs, tuple(entries), text), refresh=True)

        for event in watch(note):
            match event:
                case Snapshot():
                    instance = event.instance
                case HistoryEntry():
                    entries.append(event)
                    if event.revision > instance.revision:
                        instance = client.get_instance(
                            instance.instance_id, raw_json=True, timeout=OUTAGE_SECONDS_MAX
                        )
                case _:
                    continue
            live.update(View(instance, refs, tuple(entries)), refresh=True)
        live.vertical_overflow = "visible"


def _refs(client: Client, instance: Instance) -> tuple[str, ...]:
    from perdure.errors import WorkflowNotFoundError

    try:
        return client.get_workflow(instance.workflow, version=instance.version).graph.order
    except WorkflowNotFoundError:
        return ()


def _note(step: ActiveStep) -> str:
    notes = [f"for {', '.join(step.events)}" if step.events else ""]
    if step.last_failure is not None:
        notes.append(one_line(step.last_failure.type, step.last_failure.message))
    return "  ".join(filter(None, notes))


def _styled(status: str) -> Text:
    from rich.text import Text

    style: Any = _STYLES.get(status, _FAINT)
    return Text(escape(status), style=style)
