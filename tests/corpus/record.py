"""Record the histories of new scenarios, and the database if there is none. Files that exist are never written again.

python tests/corpus/record.py
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(root / "tests"), str(root / "examples")]
    # By its full name, so that it is the module that the tests know.
    from corpus.record import main

    sys.exit(main())

from corpus.database import FILE, record_database
from corpus.histories import FOLDER, VERSION, record
from corpus.scenarios import SCENARIOS


def main() -> int:
    """Record what is missing and print the names of the new files."""
    folder = FOLDER / VERSION
    folder.mkdir(exist_ok=True)
    for name, scenario in SCENARIOS.items():
        # Today's engine can decide a recorded scenario in another way, so it is not run again.
        if not (folder / f"{name}.json").exists():
            record(name, (scenario.__doc__ or "").strip(), scenario(), folder)
            sys.stdout.write(f"recorded {VERSION}/{name}.json\n")
    if not (folder / FILE).exists():
        with TemporaryDirectory() as work:
            asyncio.run(record_database(folder, FILE, Path(work)))
        sys.stdout.write(f"recorded {VERSION}/{FILE}\n")
    return 0
