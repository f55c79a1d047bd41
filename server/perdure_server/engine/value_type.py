"""`value`: the decorator for the values of the server.

To the type checker it is ``dataclass``, so ``frozen=True`` is checked everywhere. At run time it does not freeze,
because Python then needs a call for each field: 400 of the 700 nanoseconds that a frozen dataclass of five fields
takes. Every decision makes many values (docs/performance.md).
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
            raise TypeError("a value must be frozen and have slots; use dataclass for other classes")
        return dataclasses.dataclass(slots=True, unsafe_hash=True, kw_only=kw_only)
