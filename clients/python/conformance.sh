#!/usr/bin/env bash
# The Python client as a conformance driver: JSON lines in, JSON lines out (tests/conformance/README.md).
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
exec "$root/.venv/bin/python" "$root/tests/conformance/python_driver.py"
