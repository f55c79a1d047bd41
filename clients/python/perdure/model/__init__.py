"""Workflow graphs, their validation, and JSON payloads: the rules that the SDK and the server share.

Modules:
    graph: the graph as data, its JSON form and its digest.
    validation: `validate`, which returns every issue of a graph.
    issues: `ValidationIssue` and the codes of the issues.
    graph_analysis: reachability, cycles and joins, for `validation`.
    payloads: JSON values as they cross the API.

`graph`, `validation`, `issues` and `graph_analysis` import the standard library only. No module performs I/O.
"""
