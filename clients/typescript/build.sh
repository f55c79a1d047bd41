#!/usr/bin/env bash
# Installs the packages that package-lock.json pins and compiles the client, its tests and the driver. Does nothing if
# nothing changed. Several processes can run it at once: one builds, the others wait.
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
  mv "$started" build/.built # a file that changes while tsc runs is newer than this
fi
