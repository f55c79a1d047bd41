"""Stage: reject the call if the server has too much work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.methods import LimitsClass, Method

Place: TypeAlias = Callable[[Peer, int], None]


def places_of(method: Method, admission: AdmissionController) -> tuple[Place, Place]:
    """Return the functions that acquire and release a place for a unary call whose request has a size in bytes."""
    match method.limits:
        case LimitsClass.READ:
            return admission.acquire_call, admission.release_call
        case LimitsClass.WRITE:
            return admission.acquire_write, admission.release_call
        case LimitsClass.LIST:
            return admission.acquire_list, admission.release_list
        case LimitsClass.WATCH:
            raise ValueError(f"{method.name} is not a unary method")
