"""The command ``perdure``. The SDK alone has no commands: they come with the server, which is an extra."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

_PIP_LINE: Final = "pip install 'perdure[server]'"


def main() -> int | None:
    """Run the server's command line; without the ``server`` extra, say how to get it and return 2."""
    try:
        # By name: the SDK must not depend on the server, only this command looks for it.
        return import_module("perdure_server.cli").main()  # type: ignore[no-any-return]
    except ModuleNotFoundError as missing:
        if not _is_the_extra(missing):
            raise
        print(
            f"perdure: {missing.name} is not installed; the commands need\n\n    {_PIP_LINE}\n",
            file=sys.stderr,
        )
        return 2


def _is_the_extra(missing: ModuleNotFoundError) -> bool:
    """Is this the whole server, or a package that the server's own code asked for? All else is a bug, and
    must show.
    """
    name = missing.name or ""
    if name == "perdure_server":
        return True
    if not name or name.partition(".")[0] in {"perdure", "perdure_server"}:
        return False
    return _importer(missing).partition(".")[0] == "perdure_server"


def _importer(missing: ModuleNotFoundError) -> str:
    """The module whose import statement failed: the innermost frame outside the import system."""
    importer, frames = "", missing.__traceback__
    while frames is not None:
        module = frames.tb_frame.f_globals.get("__name__", "")
        if not module.startswith(("importlib", "_frozen_importlib")):
            importer = module
        frames = frames.tb_next
    return importer
