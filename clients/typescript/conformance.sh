#!/usr/bin/env bash
# Runs the conformance driver (conformance/driver.ts): JSON lines in, JSON lines out. Builds first what is not built.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
bash build.sh >&2
exec node build/conformance/driver.js
