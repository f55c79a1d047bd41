"""Validation of large payloads in a thread, one at a time.

The JSON parser holds the interpreter's lock, for 10 ms on an ordinary document of 1 MB and for 45 ms on the worst
(340,000 empty arrays), in whatever thread it runs. So more threads would not help. One at a time and off the loop,
other calls get their turn after each document. Encoding, hashing and the checks in Python run in parallel to the loop.
"""

from __future__ import annotations

import asyncio

from perdure_server.engine.commands import Payload
from perdure_server.runtime.request_validation import Violations


class LargePayloads:
    """A validator for payloads above `LARGE_PAYLOAD_BYTES`. Belongs to one event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def payload(
        self, violations: Violations, path: str, text: str, *, must_be_object: bool = False
    ) -> Payload | None:
        """Validate a JSON text as `Violations.payload` does. Leave ``check`` alone until this returns."""
        async with self._turn:
            return await asyncio.to_thread(violations.payload, path, text, must_be_object=must_be_object)
