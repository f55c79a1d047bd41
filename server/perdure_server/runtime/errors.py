"""Why the runtime, rather than the engine or the store, refuses a call."""

from __future__ import annotations


class OperationError(Exception):
    """The call was not carried out for a reason that lies with the server or with the moment."""


class ServerOverloadedError(OperationError):
    """Too much work is waiting. Nothing was done; try again after ``retry_after_ms``."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("too many requests are waiting")
        self.retry_after_ms = retry_after_ms


class ServerStoppingError(OperationError):
    """The server drains and takes no new work."""


class BackupNotConfiguredError(OperationError):
    """The server was started without a directory for backups."""

    def __init__(self) -> None:
        super().__init__("this server has no directory for backups")


class BackupRunningError(OperationError):
    """A backup is running, and a server takes one at a time."""

    def __init__(self) -> None:
        super().__init__("a backup is already running")


class OwnershipLostError(OperationError):
    """What the caller owned belongs to another replica by now."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"the work of instance {instance_id} belongs to another replica by now")
        self.instance_id = instance_id


class UnreachedRevisionError(OperationError):
    """The instance has not reached the revision that a watch is to resume from."""

    def __init__(self, instance_id: str, revision: int, head: int) -> None:
        super().__init__(f"instance {instance_id} is at revision {head}, not yet at {revision}")
        self.instance_id = instance_id
        self.revision = revision
        self.head = head
