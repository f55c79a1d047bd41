"""Logs: one JSON document a line, over the standard library's logging, and no payload in any of them.

A line has ``time`` (UTC), ``level``, ``logger``, ``message``, the record's ``extra`` fields, and for an error its
``error`` (type) and ``stack`` (places). The text of an exception is left out, because nobody knows what it quotes: a
``KeyError`` names a customer's key. Only the types given as ``plain_errors``, whose texts are written for operators,
keep theirs. Of what other libraries say, the first line is kept (asyncio prints whole tasks behind it).

What lives here: the format and the set-up. What may not: what is logged, which each floor decides.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
import traceback
import warnings
from datetime import UTC, datetime
from typing import Any, Final, TextIO

MESSAGE_CHARS_MAX: Final = 2_000
log = logging.getLogger(__name__)

FRAMES_MAX: Final = 30
CAUSES_MAX: Final = 5
OWN: Final = ("perdure", "perdure_server")
"""The loggers whose messages are known to carry no payloads."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SCALARS: Final = (str, int, float, bool, type(None))


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, plain_errors: tuple[type[BaseException], ...] = (OSError,)) -> None:
        super().__init__()
        self._plain_errors = plain_errors

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in line:
                line[name] = value if isinstance(value, _SCALARS) else type(value).__name__
        if record.exc_info and record.exc_info[1] is not None:
            line |= self._error(record.exc_info[1])
        # ASCII only: a log holds no character that could move a terminal's cursor or end a line.
        return json.dumps(line)

    def _message(self, record: logging.LogRecord) -> str:
        own = record.name.split(".", 1)[0] in OWN
        args = record.args
        if not own and isinstance(args, tuple):
            args = tuple(self._text_of(arg) if isinstance(arg, BaseException) else arg for arg in args)
        try:
            text = str(record.msg) % args if args else str(record.msg)
        except (TypeError, ValueError, KeyError):
            # A wrong format string is a defect, and no reason to lose the line.
            text = str(record.msg)
        if not own:
            text = text.split("\n", 1)[0]
        return text if len(text) <= MESSAGE_CHARS_MAX else text[: MESSAGE_CHARS_MAX - 1] + "…"

    def _error(self, error: BaseException) -> dict[str, Any]:
        chain: list[str] = []
        places: list[str] = []
        found: BaseException | None = error
        while found is not None and len(chain) < CAUSES_MAX:
            chain.append(self._text_of(found))
            frames = traceback.extract_tb(found.__traceback__)[-FRAMES_MAX:]
            places += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
            found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
        return {"error": " < ".join(chain), "stack": places}

    def _text_of(self, error: BaseException) -> str:
        name = type(error).__qualname__
        return f"{name}: {error}" if isinstance(error, self._plain_errors) else name


class Sparing:
    """A warning that is told at most once a second, with how many there were: an outage must not fill the disk."""

    def __init__(self, log: logging.Logger, message: str, *, seconds: float = 1.0) -> None:
        self._log = log
        self._message = message
        self._seconds = seconds
        self._told_at = -math.inf
        self._count = 0

    def tell(self, *arguments: object) -> None:
        """Count it, and tell it if it was not told a moment ago."""
        self._count += 1
        now = time.monotonic()
        if now - self._told_at >= self._seconds:
            self._log.warning(self._message, *arguments, extra={"times": self._count})
            self._told_at, self._count = now, 0


def _is_no_lost_client(record: logging.LogRecord) -> bool:
    """Leave out what grpc calls an error, with a stack: a client was gone before its answer was."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def log_to_stderr(
    *,
    level: int = logging.INFO,
    plain_errors: tuple[type[BaseException], ...] = (OSError,),
) -> None:
    """Send every log line of this process to standard error, as JSON.

    ``plain_errors`` are exceptions whose texts are written for operators and quote no payload.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(plain_errors))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # These tell every job and every connection at INFO.
    for chatty in ("apscheduler", "grpc", "asyncio"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_lost_client)
    # Python's own way of telling, once the handler fails, prints the record with its arguments.
    logging.raiseExceptions = False
    _log_what_python_prints()


def _log_what_python_prints() -> None:
    """Make lines, without texts, of what Python would print as it is: it may be of steps' code, and quote anything."""

    def in_thread(failure: Any) -> None:
        if failure.exc_type is not SystemExit:
            log.warning("a thread has failed", exc_info=failure.exc_value)

    def in_passing(failure: Any) -> None:
        log.warning("an error that could not be raised", exc_info=failure.exc_value)

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        log.warning("a warning of Python: %s", category.__name__, extra={"where": f"{filename}:{lineno}"})

    threading.excepthook = in_thread
    sys.unraisablehook = in_passing
    warnings.showwarning = show_warning
