"""The command line. `main` is all that anybody imports; everything else is loaded when it is needed.

Start-up time is a feature: no module here imports gRPC, rich or the server at its top.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command that ``sys.argv`` names and return its exit code (see `perdure_server.cli.exits.Exit`)."""
    # gRPC's core logs each lost connection by itself; what matters of that, the commands say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from perdure_server.cli.root import app

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to fail
    try:
        app(prog_name="perdure")
    except SystemExit as stop:
        return _flushed(stop.code if isinstance(stop.code, int) else 0)
    return _flushed(0)


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # `perdure list | head`: the reader has seen enough, and Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
