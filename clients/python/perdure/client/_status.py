"""gRPC's errors as the exceptions of ``perdure.errors``: the only place that knows both."""

from __future__ import annotations

from typing import Final, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from perdure.errors import FieldViolation, PerdureError, Resource, from_reason

_DETAILS_KEY: Final = "grpc-status-details-bin"
_DOMAIN: Final = "perdure"


class _Ended(Protocol):
    """What a failed call tells, asyncio or not."""

    def code(self) -> grpc.StatusCode | None: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> object: ...


def error_of(ended: _Ended, *, request_id: str = "") -> PerdureError:
    """Return the exception for a failed call: by its reason, else by its status."""
    code = ended.code() or grpc.StatusCode.UNKNOWN
    message = ended.details() or code.name
    reason, metadata, resource, retry_after = "", {}, None, None
    violations: list[FieldViolation] = []
    for detail in _details(ended):
        match detail:
            case error_details_pb2.ErrorInfo() if detail.domain == _DOMAIN:
                reason, metadata = detail.reason, dict(detail.metadata)
            case error_details_pb2.BadRequest():
                violations += (FieldViolation(v.field, v.description) for v in detail.field_violations)
            case error_details_pb2.PreconditionFailure():
                violations += (FieldViolation(v.subject, v.description) for v in detail.violations)
            case error_details_pb2.ResourceInfo():
                resource = Resource(detail.resource_type, detail.resource_name)
            case error_details_pb2.RetryInfo():
                retry_after = detail.retry_delay.ToMilliseconds() / 1000
            case _:
                pass
    return from_reason(
        reason,
        message,
        metadata,
        code=code.name,
        violations=violations,
        resource=resource,
        retry_after=retry_after,
        request_id=request_id,
    )


_Detail = (
    error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.PreconditionFailure
    | error_details_pb2.ResourceInfo
    | error_details_pb2.RetryInfo
)
_DETAIL_TYPES: Final[tuple[type[_Detail], ...]] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RetryInfo,
)


def _details(ended: _Ended) -> list[_Detail]:
    pairs = ended.trailing_metadata() or ()
    body = next((value for key, value in pairs if key == _DETAILS_KEY), None)  # type: ignore[attr-defined]
    if body is None:
        return []
    found: list[_Detail] = []
    try:
        for packed in status_pb2.Status.FromString(body).details:
            for cls in _DETAIL_TYPES:
                detail = cls()
                if packed.Unpack(detail):
                    found.append(detail)
    except DecodeError:
        # A proxy may have cut it. The status and its message still stand.
        pass
    return found
