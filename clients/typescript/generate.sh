#!/usr/bin/env bash
# Writes the TypeScript stubs below a folder's src/gen: clients/typescript/generate.sh [OUT_DIR]
# Without OUT_DIR, into this package. Local plugins only, at the versions that package-lock.json pins.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
out="${1:-$here}"
out="$(mkdir -p "$out" && cd "$out" && pwd)"
buf="$here/../../.venv-tools/bin/buf"

[ -x "$buf" ] || { echo "generate.sh: buf is not there; run 'make tools' first" >&2; exit 1; }
cd "$here"
[ -f node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es ] || npm ci --prefer-offline >&2

# Written beside their place and moved there when all of them stand: nobody ever sees, or commits, a half of them.
work="$(mktemp -d "$out/.generating.XXXXXX")"
trap 'rm -rf "$work"' EXIT
LC_ALL=C "$buf" generate --template buf.gen.yaml --output "$work"
mkdir -p "$out/src"
rm -rf "$out/src/gen"
mv "$work/src/gen" "$out/src/gen"
