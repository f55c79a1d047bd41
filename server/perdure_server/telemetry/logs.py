"""Logs: one JSON document a line, on the standard library's logging, without payloads.

A line has ``time`` (UTC), ``level``, ``logger``, ``message``, the record's ``extra`` fields, and for an error its
``error`` (type) and ``stack`` (places). The text of an exception is omitted, because it can quote anything: a
``KeyError`` contains a customer's key. Only the types passed as ``plain_errors`` keep their text, because it is written
for operators. Of other libraries' messages, the first line is kept (asyncio prints whole tasks after it).
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
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol, TextIO

log = logging.getLogger(__name__)

MESSAGE_CHARS_MAX: Final = 2_000
FRAMES_MAX: Final = 30
CAUSES_MAX: Final = 5
OWN: Final = ("perdure", "perdure_server")
"""The loggers whose messages never contain payloads."""

_SERVERS: Final = (*OWN, "apscheduler", "grpc")
"""The loggers that log regardless of how user code configures `logging`."""

LOG_BYTES_MAX: Final = 4 << 20
"""Maximum size of queued log lines and other output. Further lines are dropped."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SCALARS: Final = (str, int, float, bool, type(None))


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, plain_errors: tuple[type[BaseException], ...] = (OSError,)) -> None:
        super().__init__()
        self._plain_errors = plain_errors

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
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
        # ASCII only, so that no character moves a terminal's cursor or ends a line.
        return json.dumps(line)

    def _message(self, record: logging.LogRecord) -> str:
        own = record.name.split(".", 1)[0] in OWN
        args = record.args
        if not own and isinstance(args, tuple):
            args = tuple(self._text_of(arg) if isinstance(arg, BaseException) else arg for arg in args)
        try:
            text = str(record.msg) % args if args else str(record.msg)
        except (TypeError, ValueError, KeyError):
            # A wrong format string is a bug, but the line must not be lost.
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


class RateLimitedLogger:
    """A warning that is logged at most once a second, with its count, so that an outage does not fill the disk."""

    def __init__(self, log: logging.Logger, message: str, *, seconds: float = 1.0) -> None:
        self._log = log
        self._message = message
        self._seconds = seconds
        self._logged_at = -math.inf
        self._count = 0

    def warning(self, *arguments: object) -> None:
        """Count the event, and log it if it was not logged a moment ago."""
        self._count += 1
        now = time.monotonic()
        if now - self._logged_at >= self._seconds:
            self._log.warning(self._message, *arguments, extra={"times": self._count})
            self._logged_at, self._count = now, 0


def _is_no_lost_client(record: logging.LogRecord) -> bool:
    """Filter an error that grpc logs with a stack if a client is gone before its response."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


class LineSink(Protocol):
    """Takes log lines without blocking."""

    def put(self, data: bytes, *, max_bytes: int = ...) -> None: ...


class SinkHandler(logging.Handler):
    """Formats each record in the calling thread and hands the line to a sink. It cannot be closed."""

    def __init__(self, sink: LineSink, max_bytes: int) -> None:
        super().__init__()
        self._sink = sink
        self._max_bytes = max_bytes

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line."""
        try:
            self._sink.put(f"{self.format(record)}\n".encode(), max_bytes=self._max_bytes)
        except Exception:  # noqa: BLE001 - an argument whose text raises must only lose its own line
            self.handleError(record)


class ServerLogger(logging.Logger):
    """A logger of the server, which user code cannot silence.

    `logging.config.dictConfig` disables existing loggers, `logging.basicConfig(force=True)` removes the root's
    handlers, and `logging.disable` applies to all loggers. This logger is not affected: it has its own handler, and it
    makes plain records. It does not propagate, so that no user handler runs on the server's event loop.
    """

    server_handler: ClassVar[logging.Handler | None] = None
    """The handler of all lines. None means that the logger behaves like an ordinary one."""

    @property
    def disabled(self) -> bool:
        """Always False."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is the standard library's
        """Return True if the level is logged, independent of `logging.disable`."""
        enabled: bool | None = self._cache.get(level)  # type: ignore[attr-defined]
        if enabled is None:
            enabled = level >= self.getEffectiveLevel()
            self._cache[level] = enabled  # type: ignore[attr-defined]
        return enabled

    def makeRecord(  # noqa: N802 - see above
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        """Return a record of the standard library's class, regardless of the configured factory."""
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        vars(record).update(extra or {})
        return record

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - see above
        """Write the record to the server's log."""
        handler = ServerLogger.server_handler
        if handler is None:
            super().callHandlers(record)
        elif record.levelno >= handler.level:
            handler.handle(record)


def _is_the_servers(name: str) -> bool:
    return name.split(".", 1)[0] in _SERVERS


def _keep_loggers(handler: logging.Handler) -> None:
    """Make the server's existing and future loggers `ServerLogger` objects."""
    ServerLogger.server_handler = handler
    manager = logging.Logger.manager

    def make(name: str) -> logging.Logger:
        return (ServerLogger if _is_the_servers(name) else logging.getLoggerClass())(name)

    manager.loggerClass = make  # type: ignore[assignment]
    for name in _SERVERS:
        logging.getLogger(name)
    for name, logger in list(manager.loggerDict.items()):
        if _is_the_servers(name) and type(logger) is logging.Logger:
            # The attribute would be hidden by the property.
            vars(logger).pop("disabled", None)
            logger.__class__ = ServerLogger


def log_to_stderr(
    *,
    level: int = logging.INFO,
    plain_errors: tuple[type[BaseException], ...] = (OSError,),
    sink: LineSink | None = None,
) -> None:
    """Write every log line of this process to standard error, as JSON.

    ``plain_errors`` are exceptions whose texts are written for operators and do not quote payloads. With a ``sink``,
    lines go there instead, and user code can no longer silence the server's loggers.
    """
    handler: logging.Handler
    if sink is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        handler = SinkHandler(sink, LOG_BYTES_MAX)
        _keep_loggers(handler)
        for name in OWN:
            logging.getLogger(name).setLevel(level)
    handler.setFormatter(JsonLines(plain_errors))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # These log every job and every connection at INFO.
    for chatty in ("apscheduler", "grpc", "asyncio"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_lost_client)
    # If the handler fails, Python would print the record with its arguments.
    logging.raiseExceptions = False
    _log_what_python_prints()


def _log_what_python_prints() -> None:
    """Log what Python would print, without its text, because it can come from the code of steps and quote anything."""

    def in_thread(failure: Any) -> None:
        if failure.exc_type is not SystemExit:
            log.warning("thread failed", exc_info=failure.exc_value)

    def in_passing(failure: Any) -> None:
        log.warning("unraisable exception", exc_info=failure.exc_value)

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        extra = {"category": category.__name__, "where": f"{filename}:{lineno}"}
        log.warning("Python warning", extra=extra)

    threading.excepthook = in_thread
    sys.unraisablehook = in_passing
    warnings.showwarning = show_warning
