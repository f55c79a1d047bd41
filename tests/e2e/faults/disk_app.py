"""App of a server whose disk fails on command: the flows of the chaos rounds on a file layer with faults.

Before each write and each sync, the file layer reads the fault to inject from a file. The lease and its heartbeat are
short, so that an outage of one second ends the lease as half a minute would in production.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import apsw

from chaos.flows import Ask, Brittle, Choice, Fan, Slow
from perdure_server.core import Core
from perdure_server.runtime.replica import Replica
from perdure_server.store.sqlite import database

__all__ = ["Ask", "Brittle", "Choice", "Fan", "Slow"]

FAULT_VARIABLE: Final = "PERDURE_DISK_FAULT"
"""Names the file: empty or absent, the disk is well; else one of `FAULTS`."""

LEASE_MS: Final = 1_000
HEARTBEAT_MS: Final = 200


def _io_error(code: int) -> apsw.Error:
    error = apsw.IOError("planted")
    error.extendedresult = code
    return error


FAULTS: Final = {
    "full": lambda syncs: None if syncs else apsw.FullError("planted"),
    "write": lambda syncs: None if syncs else _io_error(apsw.SQLITE_IOERR_WRITE),
    "sync": lambda syncs: _io_error(apsw.SQLITE_IOERR_FSYNC) if syncs else None,
}
"""Exception of each fault, raised in a sync or in a write."""

FAULT: Final = Path(os.environ.get(FAULT_VARIABLE, os.devnull))


def _meet_fault(*, syncs: bool) -> None:
    try:
        name = FAULT.read_text().strip()
    except FileNotFoundError:
        return
    error = FAULTS[name](syncs) if name else None
    if error is not None:
        raise error


class _File(apsw.VFSFile):
    def xWrite(self, data: bytes, offset: int) -> None:
        _meet_fault(syncs=False)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        _meet_fault(syncs=True)
        super().xSync(flags)


class _Layer(apsw.VFS):
    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File("", name, flags)


if FAULT_VARIABLE in os.environ:
    LAYER: Final = _Layer("failing", "")
    _connect_writer, _connect_reader = database.connect_writer, database.connect_reader
    database.connect_writer = lambda path, vfs=None: _connect_writer(path, "failing")
    database.connect_reader = lambda path, vfs=None: _connect_reader(path, "failing")
    assert Core.__init__.__kwdefaults__ is not None
    assert Replica.__init__.__kwdefaults__ is not None
    Core.__init__.__kwdefaults__["lease_ms"] = LEASE_MS
    Replica.__init__.__kwdefaults__["heartbeat_ms"] = HEARTBEAT_MS
