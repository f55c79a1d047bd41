#!/usr/bin/env bash
# Generates the Java stubs of proto/perdure/v1: clients/java/generate.sh [OUT_DIR] (default: src/generated/java).
# buf reads the protos. protoc and the gRPC plugin are pinned here and come from the local Maven repository, which Maven
# fills on the first run.
set -euo pipefail

# 3.25 on purpose: its code runs on protobuf-java 3.25, which grpc-java brings, and on every 4.x.
protoc_version=3.25.9
# Not newer than the grpc.version in pom.xml: generated code runs on its own version of gRPC and on later ones.
grpc_version=1.82.2

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
out="${1:-$here/src/generated/java}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"

case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) platform=linux-x86_64 ;;
  Linux-aarch64) platform=linux-aarch_64 ;;
  Darwin-arm64) platform=osx-aarch_64 ;;
  Darwin-x86_64) platform=osx-x86_64 ;;
  *) echo "unsupported platform: $(uname -s)-$(uname -m)" >&2; exit 1 ;;
esac

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# tool GROUP ARTIFACT VERSION: copies an executable from the local Maven repository to $work/ARTIFACT
tool() {
  local repository="${MAVEN_REPOSITORY:-$HOME/.m2/repository}"
  local file="$repository/${1//.//}/$2/$3/$2-$3-$platform.exe"
  if [[ ! -f "$file" ]]; then
    mvn --batch-mode --quiet "-Dmaven.repo.local=$repository" \
      org.apache.maven.plugins:maven-dependency-plugin:3.10.0:get \
      "-Dartifact=$1:$2:$3:exe:$platform" -Dtransitive=false >&2
  fi
  install -m 0755 "$file" "$work/$2"
}
tool com.google.protobuf protoc "$protoc_version"
tool io.grpc protoc-gen-grpc-java "$grpc_version"

rm -rf "$out/dev/perdure/v1"
cd "$root/proto"
LC_ALL=C "$root/.venv-tools/bin/buf" generate . --template "{
  \"version\": \"v2\",
  \"plugins\": [
    {\"protoc_builtin\": \"java\", \"protoc_path\": \"$work/protoc\", \"out\": \"$out\"},
    {\"local\": \"$work/protoc-gen-grpc-java\", \"out\": \"$out\"}
  ]
}"
