"""Errors of the runtime layer. The engine's are `Rejection`s, the store's are `StoreError`s."""

from __future__ import annotations


class OperationError(Exception):
    """The server cannot carry out the call at this time."""


class ServerOverloadedError(OperationError):
    """Too many requests are waiting. The call had no effect. Retry it after ``retry_after_ms`` milliseconds."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("too many requests are waiting")
        self.retry_after_ms = retry_after_ms


class ServerStoppingError(OperationError):
    """The server is shutting down and accepts no new work."""


class BackupNotConfiguredError(OperationError):
    """The server was started without a backup directory."""

    def __init__(self) -> None:
        super().__init__("no backup directory is configured")


class BackupRunningError(OperationError):
    """Another backup is running. A server runs one backup at a time."""

    def __init__(self) -> None:
        super().__init__("another backup is running")


class OwnershipLostError(OperationError):
    """The timer or task of the caller belongs to another replica now."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"ownership of work of instance {instance_id!r} was lost to another replica")
        self.instance_id = instance_id


class UnreachedRevisionError(OperationError):
    """The instance has not reached the revision that a read or a watch is to continue after."""

    def __init__(self, instance_id: str, revision: int, head: int) -> None:
        super().__init__(
            f"instance {instance_id!r} has not reached revision {revision}; its latest is {head}"
        )
        self.instance_id = instance_id
        self.revision = revision
        self.head = head
