"""Addresses to listen on and TLS. Must not: import other parts of the server."""
