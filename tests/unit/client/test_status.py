"""Conversion of a failed gRPC call to an exception."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2

from perdure import errors
from perdure.client._status import error_of
from perdure.model.constants import ERROR_DOMAIN, STATUS_DETAILS_KEY


def details(*, domain: str = ERROR_DOMAIN, **metadata: str) -> bytes:
    packed = Packed()
    packed.Pack(error_details_pb2.ErrorInfo(reason="INSTANCE_NOT_FOUND", domain=domain, metadata=metadata))
    return status_pb2.Status(details=[packed]).SerializeToString()


def failed(
    *trailers: tuple[str, Any], message: str | None = "instance 'i1' not found"
) -> errors.PerdureError:
    return error_of(
        grpc.aio.AioRpcError(
            grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=message
        )
    )


def test_the_reason_selects_the_class_of_the_error() -> None:
    error = failed((STATUS_DETAILS_KEY, details(instance_id="i1", hint="list instances with ListInstances")))

    assert isinstance(error, errors.InstanceNotFoundError)
    assert (error.message, error.detail) == ("instance 'i1' not found", "")
    assert error.hint == "list instances with ListInstances"
    assert error.metadata == {"instance_id": "i1"}


@pytest.mark.parametrize(
    "trailers",
    [
        (),
        ((STATUS_DETAILS_KEY, b""),),
        ((STATUS_DETAILS_KEY, details(instance_id="i1")[:-9]),),
        ((STATUS_DETAILS_KEY, b"\xff\xff\xff"),),
        ((STATUS_DETAILS_KEY, details(domain="example.com", hint="ask somebody else")),),
        (("other-bin", details()),),
    ],
    ids=["no trailer", "empty", "truncated", "not a message", "another domain", "another key"],
)
def test_without_readable_details_the_status_and_the_message_remain(
    trailers: tuple[tuple[str, Any], ...],
) -> None:
    error = failed(*trailers)

    assert type(error) is errors.NotFoundError
    assert (error.code, error.message, error.reason) == ("NOT_FOUND", "instance 'i1' not found", "")
    assert (error.detail, error.hint, error.metadata) == ("", "", {})


def test_an_error_without_a_message_has_the_name_of_its_status() -> None:
    assert failed(message=None).message == "NOT_FOUND"
