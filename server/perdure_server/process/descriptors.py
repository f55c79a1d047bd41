"""The three standard descriptors, which a parent process can have closed.

Owns: making descriptors 0 to 2 usable. Must not: write to them.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final

STANDARD: Final = (0, 1, 2)

_CONTRARY: Final = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_RDONLY}
"""The wrong mode for each descriptor, with which its use fails with EBADF, as that of a closed one."""


def reserve_closed() -> None:
    """Open the null device on each standard descriptor that is closed.

    Without it, the next file or socket that the process opens would get the number, and every text that is meant for
    standard output would be written into it. Reads and writes keep failing with EBADF until `silence_unusable`.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            _open_null(number, _CONTRARY[number])


def silence_unusable() -> None:
    """Make reads and writes succeed on the standard descriptors that cannot be read or written.

    Reads then return nothing, and writes go nowhere.
    """
    for number in STANDARD:
        try:
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            mode = _CONTRARY[number]
        if mode == _CONTRARY[number]:
            _open_null(number, os.O_RDONLY if number == 0 else os.O_WRONLY)


def _open_null(number: int, mode: int) -> None:
    null = os.open(os.devnull, mode)
    if null == number:
        os.set_inheritable(number, True)
        return
    os.dup2(null, number)
    os.close(null)
