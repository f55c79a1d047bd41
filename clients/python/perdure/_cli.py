"""Entry point of the command ``perdure``. The commands belong to the server, which is an extra of the package."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

_PIP_LINE: Final = "pip install 'perdure[server]'"


def main() -> int | None:
    """Run the command line of the server.

    Without the ``server`` extra, print the command to install it and return 2.
    """
    try:
        # Imported by name, because the SDK must not depend on the server.
        return import_module("perdure_server.cli").main()  # type: ignore[no-any-return]
    except ModuleNotFoundError as missing:
        if not _is_the_extra(missing):
            raise
        print(
            f"perdure: error: {missing.name} is not installed\nhint: run {_PIP_LINE}",
            file=sys.stderr,
        )
        return 2


def _is_the_extra(missing: ModuleNotFoundError) -> bool:
    """Return True if the server, or a package that its own code imports, is not installed.

    Any other missing module is a bug, and its traceback must be visible.
    """
    name = missing.name or ""
    if name == "perdure_server":
        return True
    if not name or name.partition(".")[0] in {"perdure", "perdure_server"}:
        return False
    return _importer(missing).partition(".")[0] == "perdure_server"


def _importer(missing: ModuleNotFoundError) -> str:
    """Return the module whose import failed: the innermost frame outside the import system."""
    importer, frames = "", missing.__traceback__
    while frames is not None:
        module = frames.tb_frame.f_globals.get("__name__", "")
        if not module.startswith(("importlib", "_frozen_importlib")):
            importer = module
        frames = frames.tb_next
    return importer
