"""The endpoint: the methods of the API, each behind its pipeline. It does not know the transport.

gRPC (``grpc_adapter``) and embedded runners (`perdure_server.embedded`) run calls through the same endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure_server.api import (
    instance_service,
    runner_service,
    server_service,
    timer_service,
    workflow_service,
)
from perdure_server.api.admission import AdmissionController
from perdure_server.api.call_counters import CALL_SECONDS, CallCounters
from perdure_server.api.methods import Kind, Method
from perdure_server.api.pipeline import Run, compose
from perdure_server.runtime.operations import Operations
from perdure_server.telemetry.counters import Histogram

SERVICES: Final = (
    (runner_service.NAME, runner_service.RunnerService),
    (instance_service.NAME, instance_service.InstanceService),
    (timer_service.NAME, timer_service.TimerService),
    (workflow_service.NAME, workflow_service.WorkflowService),
    (server_service.NAME, server_service.ServerService),
)


class BoundMethod:
    """A method with the function that runs its calls (see `perdure_server.api.pipeline.compose`)."""

    __slots__ = ("kind", "name", "run")

    def __init__(self, method: Method, run: Run) -> None:
        self.name = method.name
        self.kind = method.kind
        self.run = run


class Endpoint:
    """All services over a runtime. Belongs to one event loop."""

    def __init__(self, runtime: Operations, admission: AdmissionController) -> None:
        self.admission = admission
        self.call_counters: dict[str, CallCounters] = {}
        """Counts of ended calls, by the name of the method."""
        self.services: Mapping[str, Mapping[str, BoundMethod]] = {
            name: {method.name: self._bind(method) for method in service(runtime).methods()}
            for name, service in SERVICES
        }
        """The methods by the name of their service and their own name."""

    def find(self, path: str) -> BoundMethod | None:
        """Return the method with a path like ``/perdure.v1.RunnerService/Resume``. None if there is none."""
        service, _, name = path.removeprefix("/").partition("/")
        return self.services.get(service, {}).get(name)

    def _bind(self, method: Method) -> BoundMethod:
        seconds = Histogram(CALL_SECONDS) if method.kind is Kind.UNARY else None
        counters = self.call_counters[method.name] = CallCounters(seconds)
        return BoundMethod(method, compose(method, self.admission, counters))
