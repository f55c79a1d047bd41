"""Stage: reject the call if the server has too much work."""

from __future__ import annotations

from time import perf_counter
from typing import TypeVar

from perdure_server.api.admission import AdmissionController
from perdure_server.api.call import Call
from perdure_server.api.methods import LimitsClass, Method
from perdure_server.api.pipeline.stage import Run

T = TypeVar("T")


def admit(run_next: Run[T], method: Method, admission: AdmissionController) -> Run[T]:
    """Hold a place of the method's limits class while a call runs."""
    match method.limits:
        case LimitsClass.WATCH:
            return _admit_watch(run_next, admission)
        case LimitsClass.LIST:
            acquire, release = admission.acquire_list, admission.release_list
        case LimitsClass.READ:
            acquire, release = admission.acquire_call, admission.release_call
        case LimitsClass.WRITE:
            acquire, release = admission.acquire_write, admission.release_call

    async def run(call: Call) -> T:
        peer, size_bytes = call.peer, len(call.body)
        acquire(peer, size_bytes)
        call.admitted_at = perf_counter()
        try:
            return await run_next(call)
        finally:
            release(peer, size_bytes)

    return run


def _admit_watch(run_next: Run[T], admission: AdmissionController) -> Run[T]:
    async def run(call: Call) -> T:
        admission.acquire_watch(call.peer)
        try:
            return await run_next(call)
        finally:
            admission.release_watch(call.peer)

    return run
