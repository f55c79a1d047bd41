"""Operations on the server itself: backups."""

from __future__ import annotations

from typing import Final

from perdure.v1 import server_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.handlers import Rpc, Unary
from perdure_server.runtime.fields import Check
from perdure_server.runtime.service import Runtime

NAME: Final = "perdure.v1.ServerService"


class ServerService:
    """See ``proto/perdure/v1/server_service.proto``."""

    def __init__(self, runtime: Runtime) -> None:
        self._backups = runtime.backups

    def rpcs(self) -> list[Rpc]:
        """The RPCs of the service."""
        return [Unary("BackupDatabase", pb.BackupDatabaseRequest, self.backup_database, mutating=True)]

    async def backup_database(self, request: pb.BackupDatabaseRequest) -> pb.BackupDatabaseResponse:
        check = Check()
        file_name = check.file_name("file_name", request.file_name)
        check.done()
        backup = await self._backups.take(file_name)
        return pb.BackupDatabaseResponse(
            path=backup.path,
            size_bytes=backup.size_bytes,
            instances=backup.instances,
            snapshot_time=convert.timestamp(backup.snapshot_at),
        )
