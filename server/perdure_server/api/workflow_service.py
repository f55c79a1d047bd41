"""WorkflowService: get and list workflow definitions."""

from __future__ import annotations

import json
from typing import Final

from perdure.model.graph import WorkflowGraph, from_json
from perdure.v1 import workflow_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.call import CallContext
from perdure_server.api.methods import LimitsClass, Method
from perdure_server.api.pagination import fill_page, read_page_token
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.request_validation import Violations
from perdure_server.store.protocol import StoredDefinition

NAME: Final = "perdure.v1.WorkflowService"


class WorkflowService:
    """The handlers of ``proto/perdure/v1/workflow_service.proto``."""

    def __init__(self, runtime: Operations) -> None:
        self._runtime = runtime

    def methods(self) -> list[Method]:
        """Return the methods of the service."""
        return [
            Method("GetWorkflow", pb.GetWorkflowRequest, self.get_workflow, LimitsClass.READ),
            Method("ListWorkflows", pb.ListWorkflowsRequest, self.list_workflows, LimitsClass.LIST),
        ]

    async def get_workflow(self, request: pb.GetWorkflowRequest, _: CallContext) -> pb.GetWorkflowResponse:
        violations = Violations()
        workflow = violations.name("workflow", request.workflow)
        version = violations.version("version", request.version)
        violations.raise_if_invalid()
        stored = await self._runtime.queries.get_definition(workflow, version)
        return pb.GetWorkflowResponse(workflow=convert.workflow(stored, _graph(stored)))

    async def list_workflows(
        self, request: pb.ListWorkflowsRequest, _: CallContext
    ) -> pb.ListWorkflowsResponse:
        violations = Violations()
        limit = violations.page_size("page_size", request.page_size)
        query = ("workflows",)
        cursor = read_page_token(violations, query, request.page_token, (str, int))
        violations.raise_if_invalid()
        after = (cursor[0], cursor[1]) if cursor else None
        found = await self._runtime.queries.list_definitions(limit=limit + 1, after=after)
        workflows, token = await fill_page(
            found,
            convert.workflow_summary,
            limit=limit,
            query=query,
            cursor_of=lambda last: (last.workflow, last.version),
        )
        return pb.ListWorkflowsResponse(workflows=workflows, next_page_token=token)


def _graph(stored: StoredDefinition) -> WorkflowGraph:
    return from_json(json.loads(stored.graph_json))
