# Sourced by the scripts beside it: sets GO to the go command, or ends with a word. GO=... names another one.
if [ -z "${GO:-}" ]; then
  GO="$(command -v go || true)"
  # Where Go's own installer puts it, which not every login shell knows of.
  [ -n "$GO" ] || { [ -x /usr/local/go/bin/go ] && GO=/usr/local/go/bin/go; } || true
fi
if [ -z "$GO" ]; then
  echo "no go command found: install Go, or name one by GO=..." >&2
  exit 1
fi
