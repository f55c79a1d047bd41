"""Conversion of gRPC errors to the exceptions of ``perdure.errors``."""

from __future__ import annotations

from typing import Final, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from perdure.errors import FieldViolation, PerdureError, Resource, from_reason
from perdure.model.constants import DETAIL_KEY, ERROR_DOMAIN, HINT_KEY, STATUS_DETAILS_KEY


class _Ended(Protocol):
    """Common interface of the errors of ``grpc`` and ``grpc.aio``."""

    def code(self) -> grpc.StatusCode | None: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> object: ...


def error_of(ended: _Ended) -> PerdureError:
    """Return the exception for a failed gRPC call."""
    code = ended.code() or grpc.StatusCode.UNKNOWN
    pairs = ended.trailing_metadata() or ()
    body = next((value for key, value in pairs if key == STATUS_DETAILS_KEY), b"")  # type: ignore[attr-defined]
    try:
        status = status_pb2.Status.FromString(body)
    except DecodeError:
        # A proxy may have truncated it. The code and the message are still valid.
        status = status_pb2.Status()
    return error_of_status(code.name, ended.details() or code.name, status)


def error_of_status(code: str, message: str, status: status_pb2.Status) -> PerdureError:
    """Return the exception for a status: by its reason, or by its code if the reason is unknown.

    ``detail`` and ``hint`` of the ``ErrorInfo`` metadata become fields of the exception.
    """
    reason, metadata, resource, retry_after = "", dict[str, str](), None, None
    violations: list[FieldViolation] = []
    for detail in _details(status):
        match detail:
            case error_details_pb2.ErrorInfo() if detail.domain == ERROR_DOMAIN:
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
        detail=metadata.pop(DETAIL_KEY, ""),
        hint=metadata.pop(HINT_KEY, ""),
        code=code,
        violations=violations,
        resource=resource,
        retry_after=retry_after,
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


def _details(status: status_pb2.Status) -> list[_Detail]:
    found: list[_Detail] = []
    for packed in status.details:
        for cls in _DETAIL_TYPES:
            detail = cls()
            try:
                if packed.Unpack(detail):
                    found.append(detail)
            except DecodeError:  # truncated, as above
                break
    return found
