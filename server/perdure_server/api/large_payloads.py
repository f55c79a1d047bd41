"""Validation of large payloads in a thread, one at a time.

The JSON parser holds Python's global lock for the whole document, in any thread: 10 ms for an ordinary document of
1 MB, and 45 ms for the worst one (340,000 empty arrays). More threads would not help. Since one document is parsed at a
time and outside of the event loop, other calls run between documents. Encoding, hashing and the checks in Python run in
parallel with the event loop.
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
        """Validate a JSON text as `Violations.payload` does. Do not use ``violations`` until this returns."""
        async with self._turn:
            return await asyncio.to_thread(violations.payload, path, text, must_be_object=must_be_object)
