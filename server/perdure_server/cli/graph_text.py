"""A workflow's graph as text: its steps from the start on, each with its arrows."""

from __future__ import annotations

from perdure.model.durations import DURATION_MS_MAX
from perdure.model.graph import Join, StepDefinition, StepKind, WorkflowGraph


def graph_lines(graph: WorkflowGraph) -> list[str]:
    """Return the graph's drawing. It must be valid: every arrow leads forward."""
    count = len(graph.steps)
    lines = [
        f"{graph.name} v{graph.version}  ({count} {'step' if count == 1 else 'steps'}, starts at {graph.start})"
    ]
    for ref in graph.order:
        step = graph.steps[ref]
        lines += ["", f"{ref}  {_about(step, graph)}", *_arrows(step)]
    return lines


def _arrows(step: StepDefinition) -> list[str]:
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
    """Return a duration in the largest unit that names it in whole numbers, as workflows write it."""
    assert 0 <= duration_ms <= DURATION_MS_MAX
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if duration_ms and duration_ms % unit_ms == 0:
            return f"{duration_ms // unit_ms}{unit}"
    return f"{duration_ms}ms"
