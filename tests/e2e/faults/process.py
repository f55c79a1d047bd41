"""Data about a server process from the kernel and from its log."""

from __future__ import annotations

import json
import os
from pathlib import Path


def rss_bytes(pid: int) -> int:
    """Return the resident memory of the process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of the process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def complaints(log: Path) -> list[str]:
    """Return the errors in the server's log, and output that is not a log line.

    Lost readiness is left out: a server on a busy machine is rightly not ready for a while.
    """
    found = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            event = json.loads(line)
            told = event["level"].lower() in {"error", "critical"} and event["message"] != "not ready"
        except (ValueError, KeyError, TypeError):
            told = bool(line.strip())
        if told:
            found.append(line[:2_000])
    return found
