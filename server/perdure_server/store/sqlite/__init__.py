"""The store on SQLite: one file, one server, every promise. `SqliteStore` is the way in."""

from perdure_server.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
