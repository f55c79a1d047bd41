"""Logs and metrics. A leaf package: it does not import any layer of the server."""
