"""The commands on workflows: those of a server, and those in files that are not served yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from perdure_server.cli.console import say, say_json, say_lines
from perdure_server.cli.errors import Exit
from perdure_server.cli.remote import Session, epilog, remote
from perdure_server.cli.serve import fail_app

if TYPE_CHECKING:
    from perdure import WorkflowGraph


def register(app: typer.Typer) -> None:
    """Add the group."""
    workflows = typer.Typer(
        help="Workflows, on a server and in files.", no_args_is_help=True, rich_markup_mode=None
    )
    remote(workflows, "list", "perdure workflows list")(list_workflows)
    workflows.command(
        "validate",
        epilog=epilog(
            "perdure workflows validate examples/order.py", "perdure workflows validate shop.flows"
        ),
    )(validate)
    remote(
        workflows,
        "show",
        "perdure workflows show order",
        "perdure workflows show order --version 2 --json",
        "perdure workflows show examples/order.py",
    )(show)
    app.add_typer(workflows, name="workflows")


def list_workflows(
    session: Session,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of results (0 = all).")] = 0,
) -> None:
    """List every version of every workflow that the server knows."""
    from perdure_server.cli.limited import Limited, page_size_of
    from perdure_server.cli.render import print_json, print_table, time_text

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


def validate(
    apps: Annotated[
        list[str], typer.Argument(metavar="APP", help="A .py file or a module with Workflow classes.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one document per line.")] = False,
) -> None:
    """Check the workflows of files or modules, without a server. Exit code 1 if one has mistakes."""
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
            say_json(json.dumps({"app": app, "valid": False, "issues": issues}, ensure_ascii=False))
            continue
        for graph in graphs:
            if as_json:
                document = {"app": app, "valid": True, "workflow": graph.name, "version": graph.version}
                say_json(json.dumps(document | {"step_count": len(graph.steps), "digest": graph.digest}))
            else:
                count = len(graph.steps)
                say(f"{graph.name} v{graph.version}: valid, {count} {'step' if count == 1 else 'steps'}")
    if failed:
        raise typer.Exit(Exit.REFUSED)


def show(
    session: Session,
    workflow: Annotated[
        str,
        typer.Argument(
            metavar="WORKFLOW|APP", help="A workflow of the server, or a .py file or dotted module."
        ),
    ],
    version: Annotated[int, typer.Option(min=0, help="The version on the server; 0 is the newest.")] = 0,
) -> None:
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
            say("")
        _draw(session, graph_of(workflow))


def _draw(session: Session, graph: WorkflowGraph) -> None:
    from perdure_server.cli.graph_text import graph_lines

    if session.as_json:
        say_json(graph.canonical_json)
    else:
        say_lines(graph_lines(graph))
