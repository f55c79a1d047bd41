#!/usr/bin/env bash
# Runs the driver of the conformance scenarios: JSON lines on stdin, JSON lines on stdout. Builds first if needed.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
"$here/build.sh" </dev/null >&2
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
  -cp "$here/target/test-classes:$here/target/classes:$(cat "$here/target/classpath")" \
  dev.perdure.conformance.Driver
