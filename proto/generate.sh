#!/usr/bin/env bash
# Writes the Python stubs of proto/perdure/v1 below a folder: proto/generate.sh clients/python
# One path only: grpc_tools.protoc. buf's Python output differs from it, and the two would take turns.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="$(mkdir -p "$1" && cd "$1" && pwd)"
tools="$root/.venv-tools/bin"

cd "$root/proto"
mkdir -p "$out/perdure/v1"
rm -f "$out"/perdure/v1/*_pb2*.py "$out"/perdure/v1/*_pb2*.pyi
LC_ALL=C "$tools/python" -m grpc_tools.protoc \
  --proto_path=. \
  --plugin=protoc-gen-mypy="$tools/protoc-gen-mypy" \
  --plugin=protoc-gen-mypy_grpc="$tools/protoc-gen-mypy_grpc" \
  --python_out="$out" --mypy_out="$out" \
  perdure/v1/*.proto
LC_ALL=C "$tools/python" -m grpc_tools.protoc \
  --proto_path=. \
  --plugin=protoc-gen-mypy_grpc="$tools/protoc-gen-mypy_grpc" \
  --grpc_python_out="$out" --mypy_grpc_out="$out" \
  perdure/v1/*_service.proto
