"""Issues of a workflow: their codes, and the report that validation adds them to."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from perdure.model.graph import NAME_PATTERN, StepDefinition

SUGGESTIONS_MAX: Final = 20
"""Maximum number of issues with a spelling suggestion. Comparing names is the slowest part of validation."""


class IssueCode(enum.StrEnum):
    """Code of an issue. Codes are stable, so tools can depend on them."""

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
    SLEEP_TRANSITIONS = "sleep_transitions"
    START_UNKNOWN = "start_unknown"
    STEP_CODE = "step_code"
    STEP_UNREACHABLE = "step_unreachable"
    TARGET_DUPLICATE = "target_duplicate"
    TARGET_UNKNOWN = "target_unknown"
    TIMEOUT_WITHOUT_TRANSITION = "timeout_without_transition"
    VERSION_INVALID = "version_invalid"
    WAIT_WITHOUT_EVENT = "wait_without_event"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationIssue:
    """One issue of a workflow.

    Attributes:
        code: Kind of the issue.
        step_ref: Step with the issue, or None if the issue concerns the workflow as a whole.
        message: What is wrong.
        hint: What to do.
    """

    code: IssueCode
    step_ref: str | None
    message: str
    hint: str

    def __str__(self) -> str:
        where = "workflow" if self.step_ref is None else f"step {self.step_ref!r}"
        return f"{where}: {self.message} [{self.code}]; {self.hint}"


@dataclass(slots=True)
class Report:
    """Collects the issues of one workflow."""

    issues: list[ValidationIssue] = field(default_factory=list)

    def add(self, code: IssueCode, step_ref: object, message: str, hint: str) -> None:
        """Add an issue. Pass None as ``step_ref`` if it concerns the workflow as a whole."""
        ref = None if step_ref is None else label(step_ref)
        self.issues.append(ValidationIssue(code=code, step_ref=ref, message=message, hint=hint))

    def in_order(self, steps: Mapping[str, StepDefinition]) -> list[ValidationIssue]:
        """Return the issues sorted by step, those of the workflow first."""
        place: dict[str | None, int] = {label(ref): index for index, ref in enumerate(steps)}
        place[None] = -1
        return sorted(self.issues, key=lambda issue: place.get(issue.step_ref, len(place)))


def show(value: object) -> str:
    """Return ``value`` for a message: at most 100 ASCII characters. Never raises, even if its repr does."""
    try:
        text = ascii(value[:100] if isinstance(value, str) else value)
    except Exception:  # noqa: BLE001 - a user's __repr__ can raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else text[:97] + "..."


def label(ref: object) -> str:
    """Return a ref for a message. A value that is not a ref is shown as `show` does."""
    return ref if isinstance(ref, str) and len(ref) <= 64 and ref.isascii() else show(ref)


def is_name(value: object) -> bool:
    """Return True for a valid name of a workflow, a step or an event."""
    return isinstance(value, str) and NAME_PATTERN.fullmatch(value) is not None


def did_you_mean(name: object, known: Iterable[str], report: Report) -> str:
    """Return a hint with the most similar known name.

    Returns "" if no name is similar, or if the report has `SUGGESTIONS_MAX` issues already.
    """
    if not isinstance(name, str) or not is_name(name) or len(report.issues) >= SUGGESTIONS_MAX:
        return ""
    similar = difflib.get_close_matches(name, [ref for ref in known if is_name(ref)], n=1)
    return f"did you mean {similar[0]!r}?" if similar else ""


def listed(names: Iterable[str]) -> str:
    """Return names for a message, sorted and separated by commas."""
    return ", ".join(show(name) for name in sorted(names))
