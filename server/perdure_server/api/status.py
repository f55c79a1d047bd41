"""Error responses as ``google.rpc.Status`` messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from perdure.model.constants import ERROR_DOMAIN
from perdure_server.api.errors import ErrorResponse

STATUS_BYTES_MAX: Final = 4 << 10
"""Size in bytes to which the violations of a status are cut. The API promises at most 6 KiB.

In base64 and together with the message, 4 KiB stay below the 8 KiB of headers that many clients and proxies accept.
"""

_MESSAGE_BYTES_MAX: Final = 1_000
_TEXT_BYTES_MAX: Final = 500
"""Size in bytes to which the detail and the hint are cut."""
_ITEM_BYTES_MAX: Final = 300
"""Size in bytes to which other texts are cut."""
_BAD_REQUEST_BYTES: Final = 200
"""Bytes that are kept free for the frame of `BadRequest` and its last item, "and N more"."""


def status_of(response: ErrorResponse) -> status_pb2.Status:
    """Return the status of an error response.

    `ErrorInfo` has the reason. Its metadata has the fields of the error, and the texts ``detail`` and ``hint`` if the
    response has them. `BadRequest`, `ResourceInfo`, `PreconditionFailure` and `RetryInfo` follow if they apply. Long
    texts are cut, and violations that do not fit into `STATUS_BYTES_MAX` are counted.
    """
    status = status_pb2.Status(code=int(response.code), message=_cut(response.message, _MESSAGE_BYTES_MAX))
    info = error_details_pb2.ErrorInfo(reason=response.reason, domain=ERROR_DOMAIN)
    for key, text in response.metadata.items():
        info.metadata[key] = _cut(text, _ITEM_BYTES_MAX)
    if response.detail:
        info.metadata["detail"] = _cut(response.detail, _TEXT_BYTES_MAX)
    if response.hint:
        info.metadata["hint"] = _cut(response.hint, _TEXT_BYTES_MAX)
    _attach(status, info)
    if response.resource is not None:
        kind, name = response.resource
        _attach(
            status,
            error_details_pb2.ResourceInfo(
                resource_type=kind, resource_name=_cut(name, _ITEM_BYTES_MAX), description=response.reason
            ),
        )
    if response.subject:
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=response.reason, subject=_cut(response.subject, _ITEM_BYTES_MAX), description=status.message
        )
        _attach(status, error_details_pb2.PreconditionFailure(violations=[violation]))
    if response.retry_after_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(response.retry_after_ms)
        _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if response.violations:
        _attach_violations(status, response.violations)
    return status


def _attach_violations(status: status_pb2.Status, violations: Sequence[tuple[str, str]]) -> None:
    room = STATUS_BYTES_MAX - status.ByteSize() - _BAD_REQUEST_BYTES
    bad = error_details_pb2.BadRequest()
    for number, (path, description) in enumerate(violations):
        item = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(path, _ITEM_BYTES_MAX), description=_cut(description, _ITEM_BYTES_MAX)
        )
        room -= item.ByteSize() + 8
        if room < 0:
            bad.field_violations.add(field="", description=f"and {len(violations) - number} more")
            break
        bad.field_violations.append(item)
    _attach(status, bad)


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str, bytes_max: int) -> str:
    body = text.encode(errors="replace")
    if len(body) <= bytes_max:
        return body.decode()
    return body[: bytes_max - 3].decode(errors="ignore") + "…"
