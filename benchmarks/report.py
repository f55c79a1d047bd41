"""The report as a table: each figure next to its target, and the gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from load import spread


def gates_broken(report: dict[str, Any]) -> list[str]:
    """Return what must be zero and is not."""
    return [
        f"{part}: {count} {name}"
        for part in ("timers", "watch", "lists", "neighbours")
        for name, count in report.get(part, {}).get("gates", {}).items()
        if count
    ]


def table(report: dict[str, Any]) -> str:
    """Return the report for a reader."""
    machine = report["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}",
        f"Python {machine['python']}; load {machine['load_before']:.1f} before, {machine['load_after']:.1f} after",
        f"{report['command']}: {report['rounds']} rounds, {report['seconds']} s",
        "",
    ]
    if "rates" in report:
        lines += rates(report["rates"])
    rest = [*latencies(report)]
    if rest:
        lines += ["", f"{'':44}{'p50':>9}{'p99':>9}{'largest':>9}  reach", *rest]
    if "restart" in report:
        lines += ["", f"{'':44}{'median':>9}{'least':>9}{'largest':>9}  reach", *restart(report["restart"])]
    for part in ("timers", "watch", "lists", "neighbours"):
        if part in report:
            zero = ", ".join(
                f"{count} {name.replace('_', ' ')}" for name, count in report[part]["gates"].items()
            )
            lines.append(f"gate, {part}: {zero}")
    return "\n".join(lines)


def rates(report: dict[str, Any]) -> Iterator[str]:
    yield f"{'a second, 64 in flight':44}{'median':>9}{'least':>9}{'largest':>9}"
    for name, found in report["per_second"].items():
        about = report["peers"].get(name)
        label = f"lifecycle on {name} {about['version']}" if about else name
        row = spread(found)
        yield f"{label:44}{row['median']:9,.0f}{row['smallest']:9,.0f}{row['largest']:9,.0f}"
    yield ""
    yield f"{'as a ratio, round by round':44}{'median':>9}{'least':>9}{'largest':>9}  reach"
    for name, reach in (("start", "0.4, aim 0.5"), ("lifecycle", "0.15, aim 0.25")):
        yield ratio(f"{name} / echo", report["of_echo"][name], reach, 3)
    for name, reach in (("dbos", "20"), ("temporal", "50"), ("restate", "5")):
        if name in report["of_peer"]:
            yield ratio(f"lifecycle / lifecycle on {name}", report["of_peer"][name], reach, 1)
        elif name in report["peers_absent"]:
            yield f"{f'lifecycle / lifecycle on {name}':44}  skipped, {report['peers_absent'][name]}"
    for name, about in report["peers"].items():
        yield f"{name} {about['version']}: {about['settings']}; {about['count']} instances a round"


def ratio(label: str, found: list[float], reach: str, digits: int) -> str:
    row = spread(found)
    figures = "".join(f"{row[key]:9.{digits}f}" for key in ("median", "smallest", "largest"))
    return f"{label:44}{figures}  {reach}"


def latencies(report: dict[str, Any]) -> Iterator[str]:
    rows: list[tuple[str, dict[str, float], str]] = []
    if "timers" in report:
        timers = report["timers"]
        rows += [
            (f"{timers['evenly']['timers']:,} timers over a second, late, ms", timers["evenly"], "p99 100"),
            (
                f"{timers['at_once']['timers']:,} timers at an instant, late, ms",
                timers["at_once"],
                "p99 1,000",
            ),
            ("a lone timer, until a watcher hears, ms", timers["lone"], "10"),
        ]
    if "watch" in report:
        watch = report["watch"]
        rows.append(
            (
                f"{watch['watchers']:,} watchers, {watch['entries_per_second']:,} entries/s, ms",
                watch,
                "p99 250",
            )
        )
    if "lists" in report:
        lists = report["lists"]
        reach = f"p99 {min(250, 3 * lists['idle']['late_ms_p99']):,.0f}"
        rows += [
            ("a start on an idle server, ms", lists["idle"], ""),
            (f"a start during lists over {lists['instances']:,}, ms", lists["flooded"], reach),
        ]
    if "neighbours" in report:
        found = report["neighbours"]["rows"]
        rows += [(f"{name}, ms", row, "p99 250, aim 3x idle") for name, row in found.items()]
    for label, row, reach in rows:
        figures = "".join(f"{row[f'late_ms_{key}']:9,.1f}" for key in ("p50", "p99", "max"))
        yield f"{label:44}{figures}  {reach}"


def restart(report: dict[str, Any]) -> Iterator[str]:
    for label, key, reach in (
        (f"restart over {report['waiting_instances']:,} instances, s", "ready_seconds", "3"),
        ("resident memory after it, MB", "memory_mb", "250"),
    ):
        row = report[key]
        figures = "".join(f"{row[name]:9,.2f}" for name in ("median", "smallest", "largest"))
        yield f"{label:44}{figures}  {reach}"
