#!/usr/bin/env bash
# Generates the Python stubs of proto/perdure/v1 and the blocking client below a directory:
#   proto/generate.sh [OUT_DIR] (default: clients/python)
# Use only this script. The Python output of buf differs from that of grpc_tools.protoc.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="${1:-$root/clients/python}"
out="$(mkdir -p "$out/perdure/v1" && cd "$out" && pwd)"
tools="$root/.venv-tools/bin"

# Written to a temporary directory and moved when all of them are complete, so that no reader sees an incomplete set.
work="$(mktemp -d "$out/.generating.XXXXXX")"
trap 'rm -rf "$work"' EXIT

cd "$root/proto"
LC_ALL=C "$tools/python" -m grpc_tools.protoc \
  --proto_path=. \
  --plugin=protoc-gen-mypy="$tools/protoc-gen-mypy" \
  --plugin=protoc-gen-mypy_grpc="$tools/protoc-gen-mypy_grpc" \
  --python_out="$work" --mypy_out="$work" \
  perdure/v1/*.proto
LC_ALL=C "$tools/python" -m grpc_tools.protoc \
  --proto_path=. \
  --plugin=protoc-gen-mypy_grpc="$tools/protoc-gen-mypy_grpc" \
  --grpc_python_out="$work" --mypy_grpc_out="$work" \
  perdure/v1/*_service.proto

for old in "$out"/perdure/v1/*_pb2*.py "$out"/perdure/v1/*_pb2*.pyi; do
  [ -e "$work/perdure/v1/$(basename "$old")" ] || rm -f "$old"
done
mv -f "$work"/perdure/v1/* "$out/perdure/v1/"

# The blocking client is generated from the asyncio client.
"$tools/python" "$root/clients/python/generate_sync.py" "$out"
