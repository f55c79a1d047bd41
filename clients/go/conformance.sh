#!/usr/bin/env bash
# Builds the conformance driver if its sources have changed, and runs it. The protocol is JSON lines.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$here/build"
# Go builds in the same file system and renames the result, so that a driver that runs from the old file continues.
GOTMPDIR="$here/build" go -C "$here" build -o build/conformance ./internal/conformance
exec "$here/build/conformance"
