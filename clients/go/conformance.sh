#!/usr/bin/env bash
# The conformance driver: builds it where its sources have changed, and becomes it. The protocol is JSON lines.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$here/build"
# Built beside its place, so that it gets there by a rename: another driver may run from the old file.
GOTMPDIR="$here/build" go -C "$here" build -o build/conformance ./internal/conformance
exec "$here/build/conformance"
