"""Output of the commands: values as JSON documents, tables and lines, and drawings of graphs. Makes no calls."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, assert_never

from perdure.client import RawJson, StepState, facts
from perdure.model.durations import DURATION_MS_MAX
from perdure.model.graph import Join, StepDefinition, StepKind, WorkflowGraph
from perdure_server.cli.console import (
    escape,
    escape_json,
    print_json_line,
    print_table_lines,
    warn,
    warn_json,
)

if TYPE_CHECKING:
    from perdure.client import ActiveStep, Instance


def print_json(value: object) -> None:
    """Print a value as one JSON document on one line and flush."""
    print_json_line(document(value))


def document(value: object) -> str:
    """Return a value as JSON on one line. The text of a `RawJson` payload is not changed."""
    match value := plain(value):
        case RawJson():
            return _one_line_json(value)
        case dict():
            return f"{{{','.join(f'{document(key)}:{document(item)}' for key, item in value.items())}}}"
        case list():
            return f"[{','.join(map(document, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _one_line_json(text: RawJson) -> str:
    # JSON has line breaks only between tokens, where a space is equivalent. A payload without a body is empty.
    return text.strip().replace("\r", " ").replace("\n", " ") or "null"


def plain(value: object) -> Any:
    """Return a value with JSON types only: times as RFC 3339, durations such as "1.5s", enums as their values."""
    match value:
        case enum.Enum():
            return value.value
        case datetime():
            return time_text(value)
        case timedelta():
            return f"{value.total_seconds():g}s"
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            items = [plain(item) for item in value]
            return sorted(items) if isinstance(value, set | frozenset) else items
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


def time_text(time: datetime | None) -> str:
    """Return a time in UTC with milliseconds, or a dash for None."""
    if time is None:
        return "-"
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns. Cells are not shortened if the output is not a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, header_style="bold" if terminal else "")
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=not terminal)
    for row in rows:
        table.add_row(*(Text(escape(cell)) for cell in row))
    console = Console(highlight=False) if terminal else Console(highlight=False, width=10_000)
    with console.capture() as printed:
        console.print(table)
    print_table_lines(line.rstrip() for line in printed.get().split("\n"))


def raw_json(value: object, *, chars_max: int = 200) -> str:
    """Return a payload as JSON on one line, shortened to ``chars_max`` characters."""
    text = _one_line_json(value) if isinstance(value, RawJson) else json.dumps(value, ensure_ascii=False)
    text = escape_json(text)
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def entry_line(entry: facts.HistoryEntry) -> str:
    """Return one line of a history."""
    kind = (entry.kind or "unknown").replace("_", " ")
    return f"{entry.revision:>5}  {time_text(entry.time)}  {kind:<18}  {fact_text(entry.fact)}".rstrip()


def fact_text(fact: facts.Fact) -> str:
    """Return the details of a fact, without its kind."""
    match fact:
        case facts.InstanceStarted():
            delay = f", starts after {plain(fact.start_delay)}" if fact.start_delay else ""
            return f"{fact.workflow} v{fact.version}, first {fact.start_step}{delay}"
        case facts.StepStarted():
            kind = fact.kind.value if fact.kind else "?"
            waits = f" for {', '.join(fact.events)}" if fact.events else ""
            return f"{fact.step_ref} ({kind}{waits})"
        case facts.AttemptStarted():
            return f"{fact.step_ref} attempt {fact.attempt}"
        case facts.AttemptFailed():
            then = "will be retried" if fact.retrying else "was the last one"
            return f"{fact.step_ref} attempt {fact.attempt} {then}: {one_line(fact.type, fact.message)}"
        case facts.AttemptReleased():
            what = "lost" if fact.lost else "given back"
            return f"{fact.step_ref} attempt {fact.attempt} {what} ({fact.reason})"
        case facts.StepSuspended():
            return f"{fact.step_ref} waits for {', '.join(fact.events)}"
        case facts.StepFinished():
            why = f" ({one_line(fact.failure.type, fact.failure.message)})" if fact.failure else ""
            return f"{fact.step_ref}: {fact.event} -> {', '.join(fact.targets)}{why}"
        case facts.StepSkipped():
            return fact.step_ref
        case facts.EventBuffered():
            return f"{fact.event} for {fact.step_ref or 'the first step that accepts it'}"
        case facts.TimerArmed():
            asked_by = ", requested by a client" if fact.client_requested else ""
            return f"{fact.reference} {_timer(fact)} due {time_text(fact.due_time)}{asked_by}"
        case facts.TimerFired():
            by_hand = ", manually" if fact.forced else ""
            unused = ", unused" if not fact.used else ""
            return f"{fact.reference} {_timer(fact)}{by_hand}{unused}"
        case facts.TimerCancelled():
            return f"{fact.reference} of {fact.step_ref}"
        case facts.InstanceCompleted():
            return _unconsumed(fact.unconsumed)
        case facts.InstanceFailed():
            why = one_line(fact.failure.type, fact.failure.message) if fact.failure else ""
            interrupted = (
                f"; interrupted: {', '.join(fact.interrupted_steps)}" if fact.interrupted_steps else ""
            )
            return f"{fact.step_ref}: {why}{interrupted}"
        case facts.InstanceCancelled():
            return "; ".join(filter(None, [one_line("", fact.reason), _unconsumed(fact.unconsumed)]))
        case facts.InstanceRetried():
            return ""
        case facts.UnknownFact():
            return "unknown to this version of perdure"
        case _:
            assert_never(fact)


def instance_lines(instance: Instance, *, now: datetime | None = None) -> list[str]:
    """Return the lines that show an instance and its steps. With ``now``, running attempts have their age."""
    lines = [
        f"{instance.instance_id}  {instance.workflow} v{instance.version}",
        f"state    {instance.state}, revision {instance.revision}",
        f"created  {time_text(instance.create_time)}",
    ]
    if instance.end_time is not None:
        lines.append(f"ended    {time_text(instance.end_time)}")
    if instance.business_key:
        lines.append(f"key      {instance.business_key}")
    if instance.labels:
        lines.append(f"labels   {', '.join(f'{k}={v}' for k, v in sorted(instance.labels.items()))}")
    if instance.error is not None:
        error = instance.error
        lines.append(f"error    {error.step_ref}: {one_line(error.type, error.message)}")
    lines.append(f"context  {raw_json(instance.input)}")
    rows = [
        (result.step_ref, result.state.value, result_text(instance, result.step_ref, result.event))
        for result in instance.step_results
    ]
    ended = {result.step_ref for result in instance.step_results}
    for step in instance.active_steps:
        if step.step_ref in ended:
            continue
        notes = [
            _attempt(step, now),
            f"no server runs {instance.workflow} v{instance.version}"
            if step.state is StepState.NO_WORKER
            else "",
            f"for {', '.join(step.events)}" if step.events else "",
            f"until {time_text(step.deadline)}" if step.deadline else "",
            one_line(step.last_failure.type, step.last_failure.message) if step.last_failure else "",
        ]
        rows.append((step.step_ref, step.state.value, "  ".join(filter(None, notes))))
    if rows:
        width = max(len(ref) for ref, _, _ in rows)
        lines += [
            "steps",
            *(f"  {ref:<{width}}  {status:<11}  {note}".rstrip() for ref, status, note in rows),
        ]
    if instance.inbox:
        lines.append(f"inbox    {', '.join(event.event for event in instance.inbox)}")
    return lines


def _attempt(step: ActiveStep, now: datetime | None) -> str:
    """Return the number of the newest attempt, lost attempts, and its start time, with its age if ``now`` is given."""
    if not step.attempt:
        return ""
    parts = [f"attempt {step.attempt}"]
    if step.lost_attempts:
        parts.append(f"{step.lost_attempts} lost in a row")
    if step.state is StepState.RUNNING and step.attempt_start_time is not None:
        age = "" if now is None else f" ({age_text(now - step.attempt_start_time)})"
        parts.append(f"since {time_text(step.attempt_start_time)}{age}")
    return "  ".join(parts)


def age_text(age: timedelta) -> str:
    """Return an age with its two largest units, for example "2h 5m". A negative age (clock difference) is "0s"."""
    seconds = max(0, int(age.total_seconds()))
    units = [
        (seconds // 86_400, "d"),
        (seconds // 3_600 % 24, "h"),
        (seconds // 60 % 60, "m"),
        (seconds % 60, "s"),
    ]
    first = next((index for index, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count}{unit}" for count, unit in units[first : first + 2] if count) or "0s"


def result_text(instance: Instance, step_ref: str, event: str) -> str:
    """Return the event that a step ended with, and its output if it has one."""
    output = instance.outputs.get(step_ref)
    return f"{event}  {raw_json(output)}" if step_ref in instance.outputs else event


def _timer(fact: facts.TimerArmed | facts.TimerFired) -> str:
    return f"{fact.kind.value} of {fact.step_ref}" if fact.step_ref else fact.kind.value


def _unconsumed(events: Sequence[facts.BufferedEvent]) -> str:
    return f"unconsumed: {', '.join(event.event for event in events)}" if events else ""


def one_line(kind: str, message: str) -> str:
    """Return a failure on one line."""
    text = escape(" ".join(message.split()))
    return f"{kind}: {text}" if kind and text else kind or text


# --- lists with a limit ------------------------------------------------------------------------------------------

T = TypeVar("T")

PAGE_SIZE_MAX: Final = 1_000


class Limited(Generic[T]):
    """The first ``limit`` items of a list, 0 for all. ``more`` is set if the list continues after them.

    Reads one more item than it yields, to set ``more``.
    """

    def __init__(self, items: Iterable[T], limit: int) -> None:
        self._items = items
        self._limit = limit
        self.more = False

    def __iter__(self) -> Iterator[T]:
        for number, item in enumerate(self._items):
            if self._limit and number == self._limit:
                self.more = True
                return
            yield item

    def print_note(self, what: str, *, as_json: bool) -> None:
        """Print on stderr that more items match and how to get them. Prints nothing if the list is complete."""
        if not self.more:
            return
        limit = self._limit
        note = f"only the first {limit} {what} are shown; use --limit {2 * limit} for more, --limit 0 for all"
        document = {"note": note, "more": True, "limit": limit}
        if as_json:
            warn_json(json.dumps(document))
        else:
            warn(f"perdure: {note}")


def page_size_of(limit: int) -> int:
    """Return the page size for a limit: one item more than shown, so that one page is usually enough."""
    return min(limit + 1, PAGE_SIZE_MAX) if limit else PAGE_SIZE_MAX


# --- graphs ------------------------------------------------------------------------------------------------------


def graph_lines(graph: WorkflowGraph) -> list[str]:
    """Return a drawing of the graph, which must be valid: every transition leads forward."""
    count = len(graph.steps)
    lines = [
        f"{graph.name} v{graph.version}  ({count} {'step' if count == 1 else 'steps'}, starts at {graph.start})"
    ]
    for ref in graph.order:
        step = graph.steps[ref]
        lines += ["", f"{ref}  {_about(step, graph)}", *_transitions(step)]
    return lines


def _transitions(step: StepDefinition) -> list[str]:
    width = max((len(event) for event in step.on), default=0)
    last = len(step.on) - 1
    return [
        f"  {'└' if index == last else '├'}─ {event:<{width}} ─▶ {', '.join(targets)}"
        for index, (event, targets) in enumerate(step.on.items())
    ]


def _about(step: StepDefinition, graph: WorkflowGraph) -> str:
    notes: list[str] = [step.kind.value]
    if step.kind is StepKind.SLEEP and step.sleep_ms is not None:
        notes.append(duration_text(step.sleep_ms))
    if step.events:
        notes.append(f"{'for' if step.kind is StepKind.WAIT else 'awaits'} {', '.join(sorted(step.events))}")
    if step.timeout_ms is not None:
        notes.append(f"at most {duration_text(step.timeout_ms)}")
    if step.attempt_timeout_ms is not None:
        notes.append(f"attempts of {duration_text(step.attempt_timeout_ms)}")
    if step.retry is not None and step.kind is StepKind.TASK:
        notes.append("1 attempt" if step.retry.max_attempts == 1 else f"{step.retry.max_attempts} attempts")
    sources = sorted(graph.predecessors[step.ref])
    if len(sources) > 1:
        notes.append(f"joins {(step.join or Join.AUTO).value} of {', '.join(sources)}")
    return f"[{', '.join(notes)}]" if len(notes) == 1 else f"[{'; '.join(notes)}]"


def duration_text(duration_ms: int) -> str:
    """Return a duration as a whole number of the largest possible unit, such as "90s" or "24h"."""
    assert 0 <= duration_ms <= DURATION_MS_MAX
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if duration_ms and duration_ms % unit_ms == 0:
            return f"{duration_ms // unit_ms}{unit}"
    return f"{duration_ms}ms"
