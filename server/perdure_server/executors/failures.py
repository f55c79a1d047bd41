"""The type, the message and the verdict of a failure, from any exception that a step or a lifespan raised.

Theory of operation. Exceptions form a tree: groups have parts, and an exception can have a cause (``raise ... from``).
The *leaves* of a failure are the parts of its groups that are not groups themselves, in order, at any depth.

- A `StepError` decides for itself, whatever it was raised from. Any other exception leaves the decision to its cause,
  and a group to its parts and its cause. One non-retryable `StepError` found this way makes the failure non-retryable.
- The context of an exception, set implicitly inside ``except`` and ``finally``, is reported but decides nothing: the
  step has handled that one.
- The reported type and message are those of the first leaf that decided, else of the first leaf that is not a
  cancellation. Causes and the number of further leaves follow in parentheses.

Exceptions are user code. Attributes are read past overridden properties, every loop is bounded, and a ``__str__`` that
raises is replaced by a placeholder. One that blocks is a blocking step like any other.

Owns: this rule. Must not: log, or know about tasks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from perdure.context import StepError
from perdure_server.engine.commands import FAILURE_MESSAGE_CHARS_MAX, FAILURE_TYPE_CHARS_MAX

LEAVES_MAX: Final = 10_000
"""Maximum number of exceptions that are visited in one failure. Further ones are ignored."""

CAUSES_MAX: Final = 5
"""Maximum number of causes in a message."""

MORE_MAX: Final = 3
"""Maximum number of further leaves that a message names. The rest is counted."""

PART_CHARS_MAX: Final = 200
"""Maximum length of the text of a cause or of a further leaf, in characters."""

_TYPE_NAME: Final = type.__dict__["__name__"].__get__
_CAUSE: Final = BaseException.__dict__["__cause__"].__get__
_CONTEXT: Final = BaseException.__dict__["__context__"].__get__
_IS_SUPPRESSED: Final = BaseException.__dict__["__suppress_context__"].__get__
_PARTS: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_CANCELLATIONS: Final = (asyncio.CancelledError, GeneratorExit)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is stored. ``leaf`` is the exception that decided."""

    type: str
    message: str
    retryable: bool
    leaf: BaseException


def failure_from(error: BaseException) -> Failure:
    """Return the failure that an exception means. Never raises."""
    leaves, is_complete = _leaves(error)
    is_retryable = _deciding(error) is None
    leaf = next((leaf for leaf in leaves if not _is_cancellation(leaf)), leaves[0])
    if not is_retryable:
        seen = set[int]()
        leaf = next((leaf for leaf in leaves if _deciding(leaf, seen) is not None), leaf)
    return Failure(
        type=clean(type_name(leaf), FAILURE_TYPE_CHARS_MAX),
        message=_message(error, leaf, leaves, is_complete=is_complete),
        retryable=is_retryable,
        leaf=leaf,
    )


def clean(text: str, max_chars: int = FAILURE_MESSAGE_CHARS_MAX) -> str:
    """Return a text that can be stored: of limited length, without lone surrogates and NUL."""
    if len(text) > max_chars:
        text = text[: max_chars - 1] + "…"
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\ufffd")


def type_name(error: BaseException) -> str:
    """Return the name of an exception's class."""
    # Read past the attribute, because a metaclass can override it.
    name: str = _TYPE_NAME(type(error))
    return name


# --- the verdict ---------------------------------------------------------------------------------------------


def _deciding(error: BaseException, seen: set[int] | None = None) -> BaseException | None:
    """Return the `StepError` that makes a failure non-retryable, None if there is none.

    Without recursion: groups nest as deep as their author likes. ``seen`` holds exceptions that do not decide.
    """
    seen = set() if seen is None else seen
    stack = [error]
    while stack and len(seen) < LEAVES_MAX:
        visited = stack.pop()
        if id(visited) in seen:
            continue
        seen.add(id(visited))
        if issubclass(type(visited), StepError):
            # The author has decided. What it was raised from does not matter.
            if not _is_retryable(visited):
                return visited
            continue
        cause = _CAUSE(visited)
        if cause is not None:
            stack.append(cause)
        if issubclass(type(visited), BaseExceptionGroup):
            stack.extend(reversed(_PARTS(visited)))
    return None


def _leaves(error: BaseException) -> tuple[list[BaseException], bool]:
    """Return the leaves in order, and False if there are more than can be visited."""
    leaves: list[BaseException] = []
    stack, seen = [error], set[int]()
    while stack and len(seen) < LEAVES_MAX:
        visited = stack.pop()
        if id(visited) in seen:
            continue
        seen.add(id(visited))
        if issubclass(type(visited), BaseExceptionGroup):
            stack.extend(reversed(_PARTS(visited)))
        else:
            leaves.append(visited)
    return leaves or [error], not stack


def _is_retryable(error: BaseException) -> bool:
    try:
        return bool(error.retryable)  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001 - a subclass that never called `StepError.__init__`
        return True


def _is_cancellation(error: BaseException) -> bool:
    return issubclass(type(error), _CANCELLATIONS)


# --- the message ---------------------------------------------------------------------------------------------


def _message(
    error: BaseException, leaf: BaseException, leaves: list[BaseException], *, is_complete: bool
) -> str:
    more = [other for other in leaves if other is not leaf]
    notes = _causes(leaf)
    if leaf is not error:
        # Of a group that was raised from another exception.
        notes += _causes(error)
    if more:
        named = [_brief(other) for other in more[:MORE_MAX]] + (["…"] if more[MORE_MAX:] else [])
        count = f"{len(more)} more" if is_complete else f"more than {len(more)} more"
        notes.append(f"and {count}: {'; '.join(named)}")
    suffix = "".join(f" ({note})" for note in notes)
    text = clean(text_of(leaf), max(FAILURE_MESSAGE_CHARS_MAX - len(suffix), PART_CHARS_MAX))
    return clean((text + suffix).strip())


def _causes(error: BaseException) -> list[str]:
    """Return a note for each exception that led to this one, the nearest first."""
    notes: list[str] = []
    reported = {_brief(error)}
    found, seen = error, {id(error)}
    while len(notes) < CAUSES_MAX and len(seen) < LEAVES_MAX:
        is_explicit = _CAUSE(found) is not None
        before = _CAUSE(found) or (None if _IS_SUPPRESSED(found) else _CONTEXT(found))
        if before is None or id(before) in seen:
            break
        seen.add(id(before))
        found = before
        # Deadlines cancel what they end. Wrappers often repeat the text of what they wrap.
        if not _is_cancellation(found) and (text := _brief_of_tree(found)) not in reported:
            reported.add(text)
            notes.append(f"{'caused by' if is_explicit else 'while handling'} {text}")
    return notes


def _brief_of_tree(error: BaseException) -> str:
    """Return one line for a cause: for a group, the leaf that decides."""
    if not issubclass(type(error), BaseExceptionGroup):
        return _brief(error)
    leaves, is_complete = _leaves(error)
    count = f"{len(leaves) - 1}{'' if is_complete else '+'}"
    return _brief(_deciding(error) or leaves[0]) + (f" and {count} more" if leaves[1:] else "")


def _brief(error: BaseException) -> str:
    text = text_of(error)
    return clean(f"{type_name(error)}: {text}" if text else type_name(error), PART_CHARS_MAX)


def text_of(error: BaseException) -> str:
    """Return the text of an exception, or a placeholder if its ``__str__`` raises."""
    try:
        # A subclass of str can carry code of its own.
        return "".join(str(error))
    except BaseException as worse:  # noqa: BLE001 - user code, and no exception must leave a step
        return f"(no text: __str__ raised {type_name(worse)})"
