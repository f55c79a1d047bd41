"""`value`: what the values of the server are declared with.

To the type checker it is ``dataclass``, so that ``frozen=True`` is checked everywhere and nothing is assigned. At run
time it leaves the freezing out, which Python pays for with a call per field: of seven hundred nanoseconds that a
frozen dataclass of five fields takes to make, four hundred, and every decision makes many (docs/performance.md). What
lives here: that, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    import dataclasses

    def value(*, frozen: bool, slots: bool, kw_only: bool = False) -> Any:
        """Declare a value: equal to another by its fields, hashable where they are, and never assigned to."""
        if not (frozen and slots):
            raise TypeError("a value is frozen and has slots; take dataclass for anything else")
        return dataclasses.dataclass(slots=True, unsafe_hash=True, kw_only=kw_only)
