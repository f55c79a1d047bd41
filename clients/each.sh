#!/usr/bin/env bash
# Runs one script of every client that is not in Python: clients/each.sh SCRIPT [OUT_DIR]
#   clients/each.sh generate.sh      writes the stubs (with OUT_DIR: below OUT_DIR/LANGUAGE instead of into the clients)
#   clients/each.sh conformance.sh   builds the client and its driver, which ends at once where stdin is empty
# A client whose toolchain is not here is left out with a word; PERDURE_REQUIRE_ALL_CLIENTS=1 makes that an error.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
script="$1"
out="${2:-}"

each() { # each LANGUAGE TOOL...
  local language="$1" tool
  shift
  for tool in "$@"; do
    if ! command -v "$tool" >/dev/null; then
      echo "clients/$language: left out, there is no $tool on this machine" >&2
      [ "${PERDURE_REQUIRE_ALL_CLIENTS:-}" != 1 ] || exit 1
      return 0
    fi
  done
  echo "clients/$language: $script"
  bash "$here/$language/$script" ${out:+"$out/$language"} </dev/null
}

each go go
each typescript node npm
each java java mvn
