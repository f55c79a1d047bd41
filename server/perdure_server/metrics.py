"""The metrics of a server: public names, help texts, labels, and the source of each value.

docs/operate/monitor.md has the same table for operators. Label values come from closed lists, or are names of
workflows, up to a limit. IDs, keys and payloads are never label values.

Must not: count (each part counts for itself), or format (``telemetry``).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import perdure
from perdure_server.api.server import ApiServer
from perdure_server.engine import facts
from perdure_server.executors.in_process import InProcessExecutor, Pool
from perdure_server.process.output import Output
from perdure_server.runtime.command_processor import CommandProcessor
from perdure_server.runtime.commit_counters import CommitCounters
from perdure_server.runtime.dispatch.dispatcher import Dispatcher
from perdure_server.runtime.missing_code import MissingCode
from perdure_server.runtime.replica import Replica
from perdure_server.security.certificates import Certificates
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.telemetry.prometheus import Figures, Labels, Metric
from perdure_server.timers.window import TimerWindow

INSTANCE_RESULTS: Final[dict[type[facts.Fact], str]] = {
    facts.InstanceCompleted: "completed",
    facts.InstanceFailed: "failed",
    facts.InstanceCancelled: "cancelled",
}

_NO_POOLS: Final = {"async": Pool(), "sync": Pool()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a server that count. ``executor`` returns None until the executor was started."""

    api: ApiServer
    processor: CommandProcessor
    committer: GroupCommitter
    timers: TimerWindow
    dispatcher: Dispatcher
    executor: Callable[[], InProcessExecutor | None]
    replica: Replica
    missing_code: MissingCode
    certificates: Certificates | None
    output: Output | None
    """None if the process does not belong to the server."""


def metrics_of(parts: Parts) -> list[Metric]:
    """Return the metrics of a server, in the order of the documentation."""
    return [
        *_server_metrics(parts),
        *_call_metrics(parts.api),
        *_instance_metrics(parts.processor.counters, parts.missing_code),
        *_commit_metrics(parts.committer),
        *_timer_metrics(parts.processor.counters, parts.timers),
        *_step_metrics(parts),
    ]


def _server_metrics(parts: Parts) -> Iterable[Metric]:
    build = (perdure.__version__, platform.python_version())
    yield Metric(
        name="perdure_build_info",
        kind="gauge",
        help="Version of the server and of Python. Always 1.",
        labels=("version", "python"),
        read=lambda: {build: 1},
    )
    yield Metric(
        name="perdure_ready",
        kind="gauge",
        help="1 if the health service reports SERVING, else 0.",
        read=_one(lambda: parts.api.ready),
    )
    yield Metric(
        name="perdure_lease_expirations_total",
        kind="counter",
        help="Leases that this process lost. It continued under a new replica ID each time.",
        read=_one(lambda: parts.replica.leases_lost),
    )
    yield Metric(
        name="perdure_tls_certificate_expiry_timestamp_seconds",
        kind="gauge",
        help="Expiry time of the TLS certificate in use, in seconds since the Unix epoch. 0 without TLS.",
        read=_one(lambda: parts.certificates.expires_at if parts.certificates else 0.0),
    )
    yield Metric(
        name="perdure_output_lines_dropped_total",
        kind="counter",
        help="Lines of the log and of step output that were dropped because they could not be written.",
        labels=("stream",),
        read=lambda: {
            ("stdout",): parts.output.stdout.dropped if parts.output else 0,
            ("stderr",): parts.output.stderr.dropped if parts.output else 0,
        },
    )


def _call_metrics(api: ApiServer) -> Iterable[Metric]:
    admission = api.admission

    def ended() -> Figures:
        figures: dict[Labels, float] = {}
        for method, counters in api.endpoint.call_counters.copy().items():
            figures[method, "OK", ""] = counters.ok
            for (code, reason), count in counters.others.copy().items():
                figures[method, code, reason] = count
        return figures

    yield Metric(
        name="perdure_grpc_requests_total",
        kind="counter",
        help="perdure.v1 calls that ended, watches included.",
        labels=("method", "code", "reason"),
        read=ended,
    )
    yield Metric(
        name="perdure_grpc_request_duration_seconds",
        kind="histogram",
        help="Time from the message of an admitted call to its end, in seconds. Watches are not included.",
        labels=("method",),
        read=lambda: {
            (method,): counters.seconds
            for method, counters in api.endpoint.call_counters.copy().items()
            if counters.seconds
        },
    )
    yield Metric(
        name="perdure_grpc_requests_in_flight",
        kind="gauge",
        help="Calls in progress, without watches.",
        read=_one(lambda: admission.calls + admission.lists),
    )
    yield Metric(
        name="perdure_grpc_watches_open",
        kind="gauge",
        help="Open watches of instances.",
        read=_one(lambda: admission.watches),
    )


def _instance_metrics(counters: CommitCounters, missing_code: MissingCode) -> Iterable[Metric]:
    yield Metric(
        name="perdure_instances_started_total",
        kind="counter",
        help="Instances that this process started.",
        labels=("workflow",),
        read=lambda: _by_workflow(counters, facts.InstanceStarted),
    )
    yield Metric(
        name="perdure_instances_finished_total",
        kind="counter",
        help="Instances that ended in this process, by result.",
        labels=("workflow", "result"),
        read=lambda: {
            (workflow, INSTANCE_RESULTS[kind]): count
            for workflow, kind, count in counters.facts.counts()
            if kind in INSTANCE_RESULTS
        },
    )
    yield Metric(
        name="perdure_instances_retried_total",
        kind="counter",
        help="Failed instances that were retried with RetryInstance.",
        labels=("workflow",),
        read=lambda: _by_workflow(counters, facts.InstanceRetried),
    )
    yield Metric(
        name="perdure_instances_without_code",
        kind="gauge",
        help="Live instances of a workflow version that this server has no code for. Counted up to 10,000.",
        labels=("workflow", "version"),
        read=lambda: {
            (definition.workflow, str(definition.version)): count
            for definition, count in missing_code.counts.items()
        },
    )
    yield Metric(
        name="perdure_events_unconsumed_total",
        kind="counter",
        help="Accepted events that no step had consumed when their instance ended.",
        labels=("workflow",),
        read=lambda: {(workflow,): count for workflow, _, count in counters.unconsumed.counts()},
    )


def _commit_metrics(committer: GroupCommitter) -> Iterable[Metric]:
    yield Metric(
        name="perdure_commit_duration_seconds",
        kind="histogram",
        help="Time to commit a batch, in seconds (all outcomes).",
        read=lambda: {(): committer.seconds},
    )
    yield Metric(
        name="perdure_commit_results_total",
        kind="counter",
        help="Changes of instances by commit result.",
        labels=("result",),
        read=lambda: {(result,): count for result, count in committer.results.copy().items()},
    )
    yield Metric(
        name="perdure_commit_queue_length",
        kind="gauge",
        help="Changes that wait for the next batch.",
        read=_one(lambda: committer.queue_length),
    )


def _timer_metrics(counters: CommitCounters, timers: TimerWindow) -> Iterable[Metric]:
    yield Metric(
        name="perdure_timers_fired_total",
        kind="counter",
        help="Timers that fired, FireTimer included.",
        read=_one(lambda: counters.facts.sum(facts.TimerFired)),
    )
    yield Metric(
        name="perdure_timer_lateness_seconds",
        kind="histogram",
        help="Time from a timer's due time to its commit, in seconds. FireTimer is not included.",
        read=lambda: {(): timers.lateness_seconds},
    )
    yield Metric(
        name="perdure_timers_in_memory",
        kind="gauge",
        help="Loaded timers, which are due soon.",
        read=_one(lambda: timers.timers),
    )


def _step_metrics(parts: Parts) -> Iterable[Metric]:
    counters, dispatcher = parts.processor.counters, parts.dispatcher

    def pools(figure: Callable[[Pool], int]) -> Callable[[], Figures]:
        def read() -> Figures:
            executor = parts.executor()
            found = _NO_POOLS if executor is None else executor.pools()
            return {(name,): figure(pool) for name, pool in found.items()}

        return read

    def loop_restarts() -> int:
        executor = parts.executor()
        return 0 if executor is None else executor.loop_restarts

    yield Metric(
        name="perdure_step_attempts_started_total",
        kind="counter",
        help="Step attempts that this process started.",
        labels=("workflow",),
        read=lambda: _by_workflow(counters, facts.AttemptStarted),
    )
    yield Metric(
        name="perdure_step_attempts_finished_total",
        kind="counter",
        help="Step attempts that ended in this process, by result.",
        labels=("workflow", "result"),
        read=lambda: {(workflow, result): count for workflow, result, count in dispatcher.finished.counts()},
    )
    yield Metric(
        name="perdure_step_attempts_lost_total",
        kind="counter",
        help="Step attempts that were lost when a server process stopped uncleanly.",
        labels=("workflow",),
        read=lambda: {(workflow,): count for workflow, _, count in dispatcher.lost.counts()},
    )
    yield Metric(
        name="perdure_step_slots",
        kind="gauge",
        help="Maximum number of steps that run at the same time.",
        labels=("pool",),
        read=pools(lambda pool: pool.size),
    )
    yield Metric(
        name="perdure_step_slots_used",
        kind="gauge",
        help="Steps that run, or whose results are being stored.",
        labels=("pool",),
        read=pools(lambda pool: pool.used),
    )
    yield Metric(
        name="perdure_step_slots_leaked",
        kind="gauge",
        help="Step tasks and threads that still run after their attempt_timeout.",
        labels=("pool",),
        read=pools(lambda pool: pool.leaked),
    )
    yield Metric(
        name="perdure_step_event_loop_restarts_total",
        kind="counter",
        help="Event loops of `async def` steps that were replaced because a step blocked or stopped them.",
        read=_one(loop_restarts),
    )
    yield Metric(
        name="perdure_step_event_loop_lag_seconds",
        kind="gauge",
        help="Longest time that the event loop of `async def` steps was blocked in the last minute, in seconds.",
        read=_one(lambda: 0.0 if (executor := parts.executor()) is None else executor.loop_lag_seconds),
    )
    yield Metric(
        name="perdure_step_result_retries_total",
        kind="counter",
        help="Retries of storing a step result.",
        read=_one(lambda: dispatcher.result_retries),
    )
    yield Metric(
        name="perdure_step_results_dropped_total",
        kind="counter",
        help="Step results that were never stored. These steps run again.",
        read=_one(lambda: dispatcher.results_dropped),
    )


def _one(read: Callable[[], float]) -> Callable[[], Figures]:
    return lambda: {(): read()}


def _by_workflow(counters: CommitCounters, fact: type[facts.Fact]) -> Figures:
    return {(workflow,): count for workflow, kind, count in counters.facts.counts() if kind is fact}
