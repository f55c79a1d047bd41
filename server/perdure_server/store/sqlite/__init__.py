"""The store on SQLite: one file for one server. Use `SqliteStore`."""

from perdure_server.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
