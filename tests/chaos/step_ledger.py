"""Ledger of step attempts, written by the steps in the server's process.

A step appends one line per attempt, in one write *before* it completes. The line survives `kill -9` of the process,
since the kernel holds it. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from perdure import Context

STEPS_VARIABLE: Final = "PERDURE_CHAOS_STEPS"
"""Names the ledger's file for the server's process."""


def note(ctx: Context) -> None:
    """Write down that this attempt runs, and what it was given."""
    line = json.dumps(
        {
            "token": ctx.idempotency_key,
            "attempt": ctx.attempt,
            "pid": os.getpid(),
            "at_ns": time.monotonic_ns(),
            "saw": digest_of(ctx.input, ctx.steps),
        }
    )
    os.write(_file(), line.encode() + b"\n")


def digest_of(context: Mapping[str, Any], steps: Mapping[str, Any]) -> str:
    """Digest what a step may see; the checker computes the same from the history."""
    seen = json.dumps([context, steps], sort_keys=True, separators=(",", ":"), default=dict)
    return hashlib.blake2b(seen.encode(), digest_size=12).hexdigest()


@cache
def _file() -> int:
    path = os.environ.get(STEPS_VARIABLE, os.devnull)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
