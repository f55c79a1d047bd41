"""The process around the server: descriptors, output, signals, forks and the end. A leaf: imports no layer of the
server."""
