"""What validation finds, and how it is gathered and worded. The public names are those of
``perdure.model.validation``.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from perdure.model.graph import NAME_PATTERN, StepDefinition

SUGGESTIONS_MAX: Final = 20
"""Up to how many issues a similar name is looked up: comparing names is the dearest thing that validation does."""


class IssueCode(enum.StrEnum):
    """What kind of mistake a issue reports; stable, so that tools may depend on it."""

    CYCLE = "cycle"
    DURATION_INVALID = "duration_invalid"
    END_UNREACHABLE = "end_unreachable"
    EVENT_NEVER_RAISED = "event_never_raised"
    EVENT_RESERVED = "event_reserved"
    EVENT_WITHOUT_TARGET = "event_without_target"
    JOIN_UNDECLARED = "join_undeclared"
    JOIN_UNKNOWN = "join_unknown"
    JOIN_UNSATISFIABLE = "join_unsatisfiable"
    LIMIT_EXCEEDED = "limit_exceeded"
    MALFORMED = "malformed"
    NAME_INVALID = "name_invalid"
    NAME_RESERVED = "name_reserved"
    RETRY_INVALID = "retry_invalid"
    SETTING_MISPLACED = "setting_misplaced"
    SLEEP_ARROWS = "sleep_arrows"
    START_UNKNOWN = "start_unknown"
    STEP_CODE = "step_code"
    STEP_UNREACHABLE = "step_unreachable"
    TARGET_DUPLICATE = "target_duplicate"
    TARGET_UNKNOWN = "target_unknown"
    TIMEOUT_WITHOUT_ARROW = "timeout_without_arrow"
    VERSION_INVALID = "version_invalid"
    WAIT_WITHOUT_EVENT = "wait_without_event"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationIssue:
    """One mistake: of which kind, at which step (None: of the workflow as a whole), what is wrong, what hints
    it.
    """

    code: IssueCode
    step_ref: str | None
    message: str
    hint: str

    def __str__(self) -> str:
        where = "workflow" if self.step_ref is None else f"step {self.step_ref!r}"
        return f"{where}: {self.message} [{self.code}]; {self.hint}"


class WorkflowInvalidError(ValueError):
    """A workflow that cannot be accepted; its text lists every issue."""

    def __init__(self, issues: Iterable[ValidationIssue], *, workflow: object = None) -> None:
        self.issues: Final = tuple(issues)
        self.workflow: Final = workflow
        named = "the workflow" if workflow is None else f"workflow {show(workflow)}"
        count = len(self.issues)
        lines = [f"{named} has {count} issue{'' if count == 1 else 's'}:"]
        lines += [f"  - {issue}" for issue in self.issues]
        super().__init__("\n".join(lines))


@dataclass(slots=True)
class Report:
    issues: list[ValidationIssue] = field(default_factory=list)

    def add(self, code: IssueCode, step_ref: object, message: str, hint: str) -> None:
        ref = None if step_ref is None else label(step_ref)
        self.issues.append(ValidationIssue(code=code, step_ref=ref, message=message, hint=hint))

    def in_order(self, steps: Mapping[str, StepDefinition]) -> list[ValidationIssue]:
        place: dict[str | None, int] = {label(ref): index for index, ref in enumerate(steps)}
        place[None] = -1
        return sorted(self.issues, key=lambda issue: place.get(issue.step_ref, len(place)))


def show(value: object) -> str:
    """``value`` for a message: short, in ASCII, and never an exception (a huge int has no text, a repr may
    raise).
    """
    try:
        text = ascii(value[:100] if isinstance(value, str) else value)
    except Exception:  # noqa: BLE001 - a stranger's __repr__ may raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else text[:97] + "..."


def label(ref: object) -> str:
    return ref if isinstance(ref, str) and len(ref) <= 64 and ref.isascii() else show(ref)


def is_name(value: object) -> bool:
    return isinstance(value, str) and NAME_PATTERN.fullmatch(value) is not None


def did_you_mean(name: object, known: Iterable[str], report: Report) -> str:
    """A hint that offers the known name most like ``name``; empty if none is like it, or much was found already."""
    if not isinstance(name, str) or not is_name(name) or len(report.issues) >= SUGGESTIONS_MAX:
        return ""
    similar = difflib.get_close_matches(name, [ref for ref in known if is_name(ref)], n=1)
    return f"did you mean {similar[0]!r}?" if similar else ""


def listed(names: Iterable[str]) -> str:
    return ", ".join(show(name) for name in sorted(names))
