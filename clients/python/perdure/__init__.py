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
    from perdure.client import AsyncClient, Client

__all__ = [
    "PENDING",
    "AsyncClient",
    "Client",
    "Context",
    "Finding",
    "Join",
    "Outcome",
    "Pending",
    "Retry",
    "StepError",
    "Workflow",
    "WorkflowGraph",
    "WorkflowInvalid",
    "code_of",
    "graph_of",
    "sleep",
    "step",
    "validate",
    "wait_for",
    "workflows_in",
]

_LAZY = {"AsyncClient": "perdure.client", "Client": "perdure.client"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("perdure")
    elif name in _LAZY:
        from importlib import import_module

        value = getattr(import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
