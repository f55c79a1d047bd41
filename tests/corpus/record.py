"""Add the histories of new scenarios to the corpus. What was recorded is never written again.

python tests/corpus/record.py
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(root / "tests"), str(root / "examples")]
    # By its full name, so that it is the module that the tests know.
    from corpus.record import main

    sys.exit(main())

from corpus.histories import FOLDER, VERSION, record
from corpus.scenarios import SCENARIOS


def main() -> int:
    """Record what is missing and say what was written."""
    folder = FOLDER / VERSION
    folder.mkdir(exist_ok=True)
    for name, story in SCENARIOS.items():
        # A story that was recorded need not be one that today's engine would tell in the same way.
        if not (folder / f"{name}.json").exists():
            record(name, (story.__doc__ or "").strip(), story(), folder)
            sys.stdout.write(f"recorded {VERSION}/{name}.json\n")
    return 0
