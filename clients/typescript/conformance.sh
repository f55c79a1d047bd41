#!/usr/bin/env bash
# Runs the conformance driver (conformance/driver.ts): JSON lines in, JSON lines out. Builds it first if necessary.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
bash build.sh >&2
exec node build/conformance/driver.js
