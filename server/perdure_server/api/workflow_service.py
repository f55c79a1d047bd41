"""Workflow definitions: get, list."""

from __future__ import annotations

import json
from typing import Final

from perdure.model.graph import WorkflowGraph, from_json
from perdure.v1 import workflow_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.handlers import Rpc, Unary
from perdure_server.api.pagination import fill, page_token, read_page_token
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.request_validation import Violations
from perdure_server.store.protocol import StoredDefinition

NAME: Final = "perdure.v1.WorkflowService"


class WorkflowService:
    """See ``proto/perdure/v1/workflow_service.proto``."""

    def __init__(self, runtime: Operations) -> None:
        self._runtime = runtime

    def rpcs(self) -> list[Rpc]:
        """The RPCs of the service."""
        return [
            Unary("GetWorkflow", pb.GetWorkflowRequest, self.get_workflow),
            Unary("ListWorkflows", pb.ListWorkflowsRequest, self.list_workflows, is_list=True),
        ]

    async def get_workflow(self, request: pb.GetWorkflowRequest) -> pb.GetWorkflowResponse:
        violations = Violations()
        workflow = violations.name("workflow", request.workflow)
        version = violations.version("version", request.version)
        violations.raise_if_invalid()
        stored = await self._runtime.get_definition(workflow, version)
        return pb.GetWorkflowResponse(workflow=convert.workflow(stored, _graph(stored)))

    async def list_workflows(self, request: pb.ListWorkflowsRequest) -> pb.ListWorkflowsResponse:
        violations = Violations()
        limit = violations.page_size("page_size", request.page_size)
        query = ("workflows",)
        cursor = read_page_token(violations, query, request.page_token, (str, int))
        violations.raise_if_invalid()
        after = (cursor[0], cursor[1]) if cursor else None
        found = await self._runtime.store.list_definitions(limit=limit + 1, after=after)
        summaries = await fill(found[:limit], convert.workflow_summary)
        response = pb.ListWorkflowsResponse(workflows=summaries)
        if len(summaries) < len(found):
            last = found[len(summaries) - 1]
            response.next_page_token = page_token(query, (last.workflow, last.version))
        return response


def _graph(stored: StoredDefinition) -> WorkflowGraph:
    return from_json(json.loads(stored.graph_json))
