"""Mapping of SQLite's errors to those of the store. Only the edge of the store uses it."""

from __future__ import annotations

from typing import Final

import apsw

from perdure_server.store.protocol import CommitUnknownError, StoreError, StoreUnavailableError

VALUE_ERRORS: Final = (
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.TooBigError,
    OverflowError,
    TypeError,
    ValueError,
)
"""Errors that the values of a row cause. Other rows of the statement can be valid."""

_NOT_APPLIED: Final = (apsw.BusyError, apsw.FullError, apsw.NoMemError)
_IO_NOT_APPLIED: Final = frozenset({apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_NOMEM})
"""Errors of COMMIT that stop it before its last frame is in the log, so that nothing is committed. Any other, above
all a failed fsync, leaves a whole transaction in the log, which a recovery can find or not."""


def store_error(error: apsw.Error) -> StoreError:
    """Return the store's error for one of SQLite's outside of COMMIT. Nothing was changed."""
    return StoreUnavailableError(error_text(error))


def commit_error(error: apsw.Error) -> StoreError:
    """Return the store's error for one that COMMIT raised."""
    if isinstance(error, _NOT_APPLIED) or (
        isinstance(error, apsw.IOError) and getattr(error, "extendedresult", None) in _IO_NOT_APPLIED
    ):
        return StoreUnavailableError(error_text(error))
    return CommitUnknownError(error_text(error))


def error_text(error: BaseException) -> str:
    """Describe an error without a value of a row.

    SQLite's messages name tables and columns, others can quote values.
    """
    if isinstance(error, apsw.Error):
        return f"SQLite: {str(error) or type(error).__name__}"
    return type(error).__name__
