"""The type of a stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from perdure_server.api.call import Call

T = TypeVar("T")

Run: TypeAlias = Callable[[Call], Awaitable[T]]
"""Runs a call through a stage and all later ones."""
