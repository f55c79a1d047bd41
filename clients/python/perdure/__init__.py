"""perdure: durable workflow instances behind a gRPC API.

``import perdure`` is light: writing a workflow needs no gRPC. The clients and their errors are loaded on
first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.authoring import (
    Retry,
    Workflow,
    code_of,
    graph_of,
    sleep,
    step,
    wait_for,
    workflows_in,
)
from perdure.context import PENDING, Context, Outcome, Pending, StepError
from perdure.graph import Join, WorkflowGraph
from perdure.validation import Finding, WorkflowInvalid, validate

if TYPE_CHECKING:
    from perdure import errors
    from perdure.client import AsyncClient, Client
    from perdure.errors import PerdureError
    from perdure.payloads import JsonText
    from perdure.runner import ConflictPolicy, Disposition, Runner

__all__ = [
    "PENDING",
    "AsyncClient",
    "Client",
    "ConflictPolicy",
    "Context",
    "Disposition",
    "Finding",
    "Join",
    "JsonText",
    "Outcome",
    "Pending",
    "PerdureError",
    "Retry",
    "Runner",
    "StepError",
    "Workflow",
    "WorkflowGraph",
    "WorkflowInvalid",
    "code_of",
    "errors",
    "graph_of",
    "sleep",
    "step",
    "validate",
    "wait_for",
    "workflows_in",
]

_LAZY = {
    "AsyncClient": "perdure.client",
    "Client": "perdure.client",
    "ConflictPolicy": "perdure.runner",
    "Disposition": "perdure.runner",
    "JsonText": "perdure.payloads",
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
