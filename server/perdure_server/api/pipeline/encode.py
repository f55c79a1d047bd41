"""Stage: encode the response of a unary call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf.message import Message

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import Transport

SMALL_RESPONSE_BYTES: Final = 16 << 10
"""Size in bytes up to which unread responses are not counted. Their number is limited by the number of calls."""


def encoder(admission: AdmissionController) -> Callable[[Message, Transport, Peer], bytes]:
    """Return a function that encodes responses. Large ones count as unread bytes until the client has read them.

    It raises `ServerOverloadedError` if too many bytes are unread.
    """

    def encode(response: Message, transport: Transport, peer: Peer) -> bytes:
        body = response.SerializeToString()
        if len(body) > SMALL_RESPONSE_BYTES:
            admission.reserve_unread_until_done(peer, len(body), transport.add_done_callback)
        return body

    return encode
