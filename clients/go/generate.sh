#!/usr/bin/env bash
# Writes the Go stubs for proto/perdure/v1: clients/go/generate.sh [OUT_DIR]. The default is this module's v1/.
# tools/go.mod pins the plugins, and `make tools` installs buf. Only modules that are not in Go's cache are downloaded.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
mkdir -p "${1:-$here}"
out="$(cd "${1:-$here}" && pwd)"

go_plugin="$(go -C "$here/tools" tool -n protoc-gen-go)"
grpc_plugin="$(go -C "$here/tools" tool -n protoc-gen-go-grpc)"

# `module=` removes the module's path from go_package, which leaves v1/.
rm -f "$out"/v1/*.pb.go
LC_ALL=C "$root/.venv-tools/bin/buf" generate "$root/proto" --output "$out" --template "{
  \"version\": \"v2\",
  \"plugins\": [
    {\"local\": \"$go_plugin\", \"out\": \".\", \"opt\": \"module=perdure.dev/go/perdure\"},
    {\"local\": \"$grpc_plugin\", \"out\": \".\", \"opt\": \"module=perdure.dev/go/perdure\"}
  ]
}"
