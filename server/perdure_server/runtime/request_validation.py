"""The rules for what a caller may send, for every face of the server.

A call's fields are checked together: `Violations` gathers every violation, each under the path of its field in the API,
and `Violations.done` raises them at once. What lives here: patterns, bounds and JSON. What may not: anything that
needs the
store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from perdure.model.graph import DURATION_MS_MAX, NAME_PATTERN, RESERVED_EVENTS
from perdure.model.validation import VERSION_MAX
from perdure_server.engine.commands import PAYLOAD_BYTES_MAX, Payload, payload
from perdure_server.engine.rejections import PayloadTooLarge

INSTANCE_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
REQUEST_ID_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,128}")
FILE_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REVISION_PATTERN: Final = re.compile(r"[1-9][0-9]{0,17}")
LABEL_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}")
BUSINESS_KEY_BYTES_MAX: Final = 256
LABEL_VALUE_BYTES_MAX: Final = 256
LABELS_MAX: Final = 32
REASON_BYTES_MAX: Final = 1_024
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1_000
NESTING_MAX: Final = 100
LARGE_PAYLOAD_BYTES: Final = 64 << 10
"""Size in bytes above which a payload is validated off the event loop, one at a time."""
VIOLATIONS_MAX: Final = 100
"""How many violations of one call are told."""

# Control characters, line separators, direction marks, invisible spaces and operators, and surrogates. The joiners
# U+200C and U+200D are not among them: Persian, the languages of India and emoji are spelled with them.
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with the field at ``path``, and how to hint it."""

    path: str
    description: str


class InvalidRequestError(Exception):
    """A call has fields that no call may have. Nothing was done."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("; ".join(f"{v.path}: {v.description}" for v in violations))
        self.violations = violations


class Violations:
    """Gathers the violations of one call. Each method returns the value to go on with."""

    __slots__ = ("_too_large", "_violations")

    def __init__(self) -> None:
        self._violations: list[Violation] | None = None
        self._too_large: PayloadTooLarge | None = None

    def add_violation(self, path: str, description: str) -> None:
        """Note a violation."""
        if self._violations is None:
            self._violations = []
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(Violation(path, description))

    def raise_if_invalid(self) -> None:
        """Raise `InvalidRequestError` or `PayloadTooLarge` if anything was wrong."""
        if self._violations is not None:
            raise InvalidRequestError(tuple(self._violations))
        if self._too_large is not None:
            raise self._too_large

    # --- names and ids ---------------------------------------------------------------------------------------

    def name(self, path: str, value: str, *, optional: bool = False) -> str:
        """Check a workflow's or a step's name."""
        if not (optional and not value) and not NAME_PATTERN.fullmatch(value):
            self.add_violation(path, f"must match ^{NAME_PATTERN.pattern}$, like 'order'{_given(value)}")
        return value

    def event(self, path: str, value: str) -> str:
        """Check the name of an event from outside."""
        if not NAME_PATTERN.fullmatch(value):
            self.add_violation(path, f"must match ^{NAME_PATTERN.pattern}$, like 'approved'{_given(value)}")
        elif value in RESERVED_EVENTS:
            self.add_violation(
                path, f"{value!r} is reserved: only the server raises it; send an event that a step names"
            )
        return value

    def instance_id(self, path: str, value: str, *, optional: bool = False) -> str:
        """Violations an instance's id."""
        if not (optional and not value) and not INSTANCE_ID_PATTERN.fullmatch(value):
            self.add_violation(
                path,
                f"must be 1 to 128 letters, digits or _ . : - and begin with a letter or digit{_given(value)}",
            )
        return value

    def request_id(self, path: str, value: str) -> str:
        """Violations an optional request id."""
        if value and not REQUEST_ID_PATTERN.fullmatch(value):
            self.add_violation(
                path, f"must be at most 128 visible ASCII characters, like a UUID{_given(value)}"
            )
        return value

    def file_name(self, path: str, value: str) -> str:
        """Check the name of a file, which cannot lead out of its directory."""
        if not FILE_NAME_PATTERN.fullmatch(value):
            self.add_violation(
                path,
                "must be 1 to 128 of the characters A-Z a-z 0-9 . _ - and start with a letter or a digit, "
                f"like 'perdure.db'{_given(value)}",
            )
        return value

    def reference(self, path: str, value: str) -> tuple[str, int]:
        """Check a timer's reference and return its parts: the instance's id and the revision."""
        instance_id, _, revision = value.rpartition(".")
        sound = INSTANCE_ID_PATTERN.fullmatch(instance_id) and _REVISION_PATTERN.fullmatch(revision)
        if not sound:
            self.add_violation(
                path,
                "must be a timer's reference as ScheduleResume or ListTimers gave it, '<instance_id>.<n>'",
            )
            return "", 0
        return instance_id, int(revision)

    def text(self, path: str, value: str, bytes_max: int) -> str:
        """Violations an optional text for people."""
        if value and (len(value.encode(errors="replace")) > bytes_max or _UNPRINTABLE.search(value)):
            self.add_violation(
                path, f"must be at most {bytes_max} bytes of UTF-8 without control or direction characters"
            )
        return value

    def labels(self, path: str, labels: Mapping[str, str]) -> dict[str, str]:
        """Violations labels."""
        if not labels:
            return {}
        if len(labels) > LABELS_MAX:
            self.add_violation(path, f"must be at most {LABELS_MAX} labels, not {len(labels)}")
            return {}
        for key, value in labels.items():
            if not LABEL_KEY_PATTERN.fullmatch(key):
                self.add_violation(path, f"every key must match ^{LABEL_KEY_PATTERN.pattern}${_given(key)}")
            self.text(f"{path}[{key[:63]!r}]", value, LABEL_VALUE_BYTES_MAX)
        return dict(labels)

    # --- numbers ---------------------------------------------------------------------------------------------

    def delay_ms(self, path: str, value: int, *, smallest: int = 1) -> int:
        """Check a delay in milliseconds, of at most ten years."""
        if not smallest <= value <= DURATION_MS_MAX:
            self.add_violation(
                path, f"must be {smallest} to {DURATION_MS_MAX} milliseconds (ten years), not {value}"
            )
        return value

    def version(self, path: str, value: int) -> int:
        """Check a workflow's version; 0 stands for the newest."""
        if not 0 <= value <= VERSION_MAX:
            self.add_violation(path, f"must be 0 (the newest) to {VERSION_MAX}, not {value}")
        return value

    def revision(self, path: str, value: int) -> int:
        """Check a revision to go on after."""
        if value < 0:
            self.add_violation(
                path, f"must be 0 (from the first entry) or a revision that was seen, not {value}"
            )
        return value

    def page_size(self, path: str, value: int) -> int:
        """Return how many items a page has: the default for 0, and never more than the most."""
        if value < 0:
            self.add_violation(
                path, f"must be 0 (for {PAGE_SIZE_DEFAULT}) or more; more than {PAGE_SIZE_MAX} is cut to it"
            )
        return min(value or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)

    # --- JSON ------------------------------------------------------------------------------------------------

    def payload(self, path: str, text: str, *, must_be_object: bool = False) -> Payload | None:
        """Check a JSON text. Returns None where it is not sound, or where it is too large (`done` raises that)."""
        try:
            found = payload(text)
        except UnicodeEncodeError:
            self.add_violation(path, "must be UTF-8 text")
            return None
        if found.info.size_bytes > PAYLOAD_BYTES_MAX:
            self._too_large = PayloadTooLarge(path, found.info.size_bytes, PAYLOAD_BYTES_MAX)
            return None
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            self.add_violation(path, f"must be JSON (RFC 8259): {_where(error)}")
            return None
        if must_be_object and not isinstance(value, dict):
            self.add_violation(
                path, f'must be a JSON object, like {{"order": 17}}, not {_KINDS.get(type(value), "null")}'
            )
            return None
        if wrong := shape_problem(text, lambda: value):
            self.add_violation(path, wrong)
            return None
        return found


_KINDS: Final[Mapping[type, str]] = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}


def _given(value: str) -> str:
    """Repeat a bad value, as far as that is safe."""
    return f", not {value[:64]!a}" if value else "; it is empty"


def _where(error: orjson.JSONDecodeError) -> str:
    # orjson's own text may quote nothing of the document; only the place is added.
    return f"{error.msg.split(':')[0]} (line {error.lineno}, column {error.colno})"


def shape_problem(text: str, value: Callable[[], Any]) -> str:
    """Say what is wrong with the shape of a JSON text's value, which few texts need to be asked for. Empty: nothing."""
    if text.count("[") + text.count("{") > NESTING_MAX and _nests_deeper(value(), NESTING_MAX):
        return f"must not nest deeper than {NESTING_MAX} levels"
    if "\\u0000" in text and _has_nul_key(value()):
        return "must not have the NUL character in a key"
    return ""


_CONTAINERS: Final = (dict, list)


def _nests_deeper(value: Any, levels_max: int) -> bool:
    """Whether containers nest deeper than that; without recursion, and looking at each of them once."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(levels_max):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _CONTAINERS)
        ]
    return bool(level)


def _has_nul_key(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if any("\0" in key for key in item):
                return True
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return False
