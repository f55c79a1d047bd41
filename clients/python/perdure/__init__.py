"""perdure: durable workflow instances behind a gRPC API.

``import perdure`` is light: writing a workflow needs no gRPC. The clients and their errors are loaded on
first use.
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
from perdure.model.graph import Join, WorkflowGraph
from perdure.model.validation import ValidationIssue, WorkflowInvalidError, validate

if TYPE_CHECKING:
    from perdure import errors
    from perdure.client import AsyncClient, Client
    from perdure.errors import PerdureError
    from perdure.model.payloads import RawJson
    from perdure.runner import ConflictPolicy, Disposition, Runner

__all__ = [
    "SUSPEND",
    "AsyncClient",
    "Client",
    "ConflictPolicy",
    "Context",
    "Disposition",
    "ValidationIssue",
    "Join",
    "RawJson",
    "Outcome",
    "Suspend",
    "PerdureError",
    "RetryPolicy",
    "Runner",
    "StepError",
    "Workflow",
    "WorkflowGraph",
    "WorkflowInvalidError",
    "handlers_of",
    "errors",
    "graph_of",
    "sleep",
    "step",
    "validate",
    "wait_for",
    "find_workflows",
]

_LAZY = {
    "AsyncClient": "perdure.client",
    "Client": "perdure.client",
    "ConflictPolicy": "perdure.runner",
    "Disposition": "perdure.runner",
    "RawJson": "perdure.model.payloads",
    "PerdureError": "perdure.errors",
    "Runner": "perdure.runner",
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
