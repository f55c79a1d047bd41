"""Commands on workflows, on a server or in local files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from perdure_server.cli.console import print_json_line, print_line, print_lines
from perdure_server.cli.errors import Exit
from perdure_server.cli.param_types import epilog
from perdure_server.cli.serve import fail_app
from perdure_server.cli.session import Session, as_json_option, limit_option, remote

if TYPE_CHECKING:
    from perdure import WorkflowGraph


@click.group(no_args_is_help=True)
def workflows() -> None:
    """Workflows, on a server and in files."""


@remote("list", "perdure workflows list")
@limit_option(default=0)
def list_workflows(session: Session, limit: int) -> None:
    """List every version of every workflow that the server has."""
    from perdure_server.cli.render import Limited, page_size_of, print_json, print_table, time_text

    listed = Limited(session.client.list_workflows(page_size=page_size_of(limit)), limit)
    if session.as_json:
        for workflow in listed:
            print_json(workflow)
    else:
        rows = (
            (w.name, str(w.version), str(w.step_count), w.digest[:12], time_text(w.create_time))
            for w in listed
        )
        print_table(("WORKFLOW", "VERSION", "STEPS", "DIGEST", "STORED"), rows)
    listed.print_note("workflow versions", as_json=session.as_json)


@click.command(
    "validate",
    epilog=epilog("perdure workflows validate examples/order.py", "perdure workflows validate shop.flows"),
)
@click.argument(
    "apps", metavar="APP...", nargs=-1, required=True, help="A .py file or a module with Workflow classes."
)
@as_json_option
def validate(apps: tuple[str, ...], as_json: bool) -> None:
    """Validate the workflows of files or modules, without a server. Exits with 1 if one is invalid."""
    from perdure import graph_of
    from perdure_server.cli.apps import AppError, load_workflows

    failed = False
    for app in apps:
        try:
            graphs = [graph_of(workflow) for workflow in load_workflows([app])]
        except AppError as error:
            if not as_json or not error.issues:
                fail_app(error)
            failed = True
            issues = [
                {"code": f.code.value, "step_ref": f.step_ref, "message": f.message, "hint": f.hint}
                for f in error.issues
            ]
            print_json_line(json.dumps({"app": app, "valid": False, "issues": issues}, ensure_ascii=False))
            continue
        for graph in graphs:
            if as_json:
                document = {"app": app, "valid": True, "workflow": graph.name, "version": graph.version}
                print_json_line(
                    json.dumps(document | {"step_count": len(graph.steps), "digest": graph.digest})
                )
            else:
                count = len(graph.steps)
                print_line(
                    f"{graph.name} v{graph.version}: valid, {count} {'step' if count == 1 else 'steps'}"
                )
    if failed:
        raise click.exceptions.Exit(Exit.REJECTED)


@remote(
    "show",
    "perdure workflows show order",
    "perdure workflows show order --version 2 --json",
    "perdure workflows show examples/order.py",
)
@click.argument(
    "workflow", metavar="WORKFLOW|APP", help="A workflow of the server, or a .py file or dotted module."
)
@click.option(
    "--version", type=click.IntRange(min=0), default=0, help="Version on the server (0 = the newest)."
)
def show(session: Session, workflow: str, version: int) -> None:
    """Draw a workflow's graph."""
    if "." in workflow or "/" in workflow:
        _show_local(session, workflow)
        return
    _draw(session, session.client.get_workflow(workflow, version=version).graph)


def _show_local(session: Session, app: str) -> None:
    from perdure import graph_of
    from perdure_server.cli.apps import AppError, load_workflows

    try:
        found = load_workflows([app])
    except AppError as error:
        fail_app(error)
    for index, workflow in enumerate(found):
        if index and not session.as_json:
            print_line("")
        _draw(session, graph_of(workflow))


def _draw(session: Session, graph: WorkflowGraph) -> None:
    from perdure_server.cli.render import graph_lines

    if session.as_json:
        print_json_line(graph.canonical_json)
    else:
        print_lines(graph_lines(graph))


for command in (list_workflows, validate, show):
    workflows.add_command(command)
