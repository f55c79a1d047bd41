"""Command line. Its entry point is `main`. All other modules are imported on demand.

For a short start-up time, no module here imports gRPC, rich or the server at its top.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command that ``sys.argv`` names and end the process (see `perdure_server.cli.errors.Exit`)."""
    from perdure_server.cli.streams import end, interrupts_end_the_process, open_streams
    from perdure_server.process.descriptors import reserve_closed

    with interrupts_end_the_process():
        reserve_closed()
        open_streams()
        _hide_working_folder()
        end(_run())


def _run() -> int:
    # gRPC's core logs each lost connection. The commands report lost connections themselves.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # gRPC's fork handlers support clients only. They crash the child processes of a server.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    from perdure_server.cli.main import app
    from perdure_server.cli.streams import OutputError

    try:
        try:
            app(prog_name="perdure")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        else:
            code = 0
        sys.stdout.flush()
        return code
    except OutputError as error:
        return _end_of_output(error)
    except ModuleNotFoundError:
        raise  # `perdure._cli` reports the package to install
    except BaseException:  # noqa: BLE001 - a defect: a bug report needs its traceback
        import traceback

        traceback.print_exc()
        return 1


def _end_of_output(error: Exception) -> int:
    # The reader closed the pipe, as in `perdure list | head`.
    if getattr(error, "reader_is_gone", False):
        return 0
    from perdure_server.cli.console import warn

    warn(f"perdure: {error}")
    return 1


def _hide_working_folder() -> None:
    """Move the working folder to the end of ``sys.path``.

    ``python -m`` puts it first, so that a file in it would replace a module of the standard library.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None or getattr(sys.flags, "safe_path", False) or not sys.path:
        return
    first = sys.path[0]
    try:
        is_working_folder = not first or os.path.samefile(first, os.curdir)
    except OSError:
        return
    if is_working_folder:
        sys.path.append(sys.path.pop(0))
