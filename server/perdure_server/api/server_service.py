"""ServerService: operations on the server itself."""

from __future__ import annotations

from typing import Final

from perdure.v1 import server_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.call import CallContext
from perdure_server.api.methods import LimitsClass, Method
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.request_validation import Violations

NAME: Final = "perdure.v1.ServerService"


class ServerService:
    """The handlers of ``proto/perdure/v1/server_service.proto``."""

    def __init__(self, runtime: Operations) -> None:
        self._backups = runtime.backups

    def methods(self) -> list[Method]:
        """Return the methods of the service."""
        return [Method("BackupDatabase", pb.BackupDatabaseRequest, self.backup_database, LimitsClass.WRITE)]

    async def backup_database(
        self, request: pb.BackupDatabaseRequest, _: CallContext
    ) -> pb.BackupDatabaseResponse:
        violations = Violations()
        file_name = violations.file_name("file_name", request.file_name)
        violations.raise_if_invalid()
        backup = await self._backups.take(file_name)
        return pb.BackupDatabaseResponse(
            path=backup.path,
            size_bytes=backup.size_bytes,
            instances=backup.instances,
            snapshot_time=convert.timestamp(backup.snapshot_at),
        )
