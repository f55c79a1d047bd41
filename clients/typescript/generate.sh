#!/usr/bin/env bash
# Generates the TypeScript stubs in OUT_DIR/src/gen: clients/typescript/generate.sh [OUT_DIR]
# OUT_DIR is this package by default. Uses only local plugins, at the versions that package-lock.json pins.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
out="${1:-$here}"
out="$(mkdir -p "$out" && cd "$out" && pwd)"
buf="$here/../../.venv-tools/bin/buf"

[ -x "$buf" ] || { echo "generate.sh: buf is not installed; run 'make tools' first" >&2; exit 1; }
cd "$here"
[ -f node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es ] || npm ci --prefer-offline >&2

# Generated in a temporary folder and moved when complete, so that src/gen is never incomplete.
work="$(mktemp -d "$out/.generating.XXXXXX")"
trap 'rm -rf "$work"' EXIT
LC_ALL=C "$buf" generate --template buf.gen.yaml --output "$work"
mkdir -p "$out/src"
rm -rf "$out/src/gen"
mv "$work/src/gen" "$out/src/gen"
