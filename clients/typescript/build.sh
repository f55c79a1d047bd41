#!/usr/bin/env bash
# Installs what package-lock.json pins; compiles the package, its tests and the driver; nothing where nothing changed.
# Several test processes may come here at once: the first one builds, the others wait for it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p build
exec 9>build/.lock
flock 9

if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt build/.installed ]; then
  npm ci --prefer-offline --ignore-scripts --no-audit --no-fund
  touch build/.installed
fi
changed="$(find src conformance test ./*.json build.sh -newer build/.built 2>/dev/null | head -n 1 || true)"
if [ ! -f build/.built ] || [ -n "$changed" ]; then
  started=build/.started
  touch "$started"
  rm -rf dist build/conformance build/test
  node_modules/.bin/tsc -p tsconfig.json
  node_modules/.bin/tsc -p tsconfig.dev.json
  mv "$started" build/.built # what changes while tsc runs is newer than this
fi
