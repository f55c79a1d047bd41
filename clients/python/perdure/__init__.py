"""perdure: durable workflow instances behind a gRPC API.

``import perdure`` does not import gRPC, because workflows do not need it. Clients and errors are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.authoring import (
    RetryPolicy,
    Workflow,
    find_workflows,
    graph_of,
    handlers_of,
    sleep,
    step,
    wait_for,
)
from perdure.context import SUSPEND, Context, Outcome, StepError, Suspend
from perdure.model.durations import Duration
from perdure.model.graph import Join, WorkflowGraph
from perdure.model.validation import ValidationIssue, validate

if TYPE_CHECKING:
    from perdure import errors
    from perdure.client import AsyncClient, Client
    from perdure.errors import PerdureError, WorkflowInvalidError
    from perdure.model.payloads import RawJson
    from perdure.runner import ConflictPolicy, Disposition, Runner

__all__ = [
    "SUSPEND",
    "AsyncClient",
    "Client",
    "ConflictPolicy",
    "Context",
    "Disposition",
    "Duration",
    "Join",
    "Outcome",
    "PerdureError",
    "RawJson",
    "RetryPolicy",
    "Runner",
    "StepError",
    "Suspend",
    "ValidationIssue",
    "Workflow",
    "WorkflowGraph",
    "WorkflowInvalidError",
    "errors",
    "find_workflows",
    "graph_of",
    "handlers_of",
    "sleep",
    "step",
    "validate",
    "wait_for",
]

_LAZY = {
    "AsyncClient": "perdure.client",
    "Client": "perdure.client",
    "ConflictPolicy": "perdure.runner",
    "Disposition": "perdure.runner",
    "RawJson": "perdure.model.payloads",
    "PerdureError": "perdure.errors",
    "Runner": "perdure.runner",
    "WorkflowInvalidError": "perdure.errors",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module, metadata

    value: Any
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    elif name == "errors":
        value = import_module("perdure.errors")
    elif name == "__version__":
        value = metadata.version("perdure")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
