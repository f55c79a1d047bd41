"""Values that the server and its clients must agree on. Each is defined here once."""

from __future__ import annotations

from typing import Final

DEFAULT_TARGET: Final = "127.0.0.1:7420"
"""Address that a server listens on and that a client connects to by default."""

ERROR_DOMAIN: Final = "perdure"
"""``ErrorInfo.domain`` of every error that a perdure server reports."""

STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"
"""gRPC trailer that carries the serialized ``google.rpc.Status`` of an error."""

DETAIL_KEY: Final = "detail"
"""Key of ``ErrorInfo.metadata`` that carries an error's detail."""

HINT_KEY: Final = "hint"
"""Key of ``ErrorInfo.metadata`` that carries an error's hint."""

PAYLOAD_BYTES_MAX: Final = 1 << 20
"""Maximum size of a payload: 1 MiB of UTF-8 JSON text."""

INSTANCE_BYTES_MAX: Final = 3 << 20
"""Maximum total size of an instance's context, outputs and buffered events: 3 MiB."""

NESTING_MAX: Final = 100
"""Maximum nesting depth of a payload."""
