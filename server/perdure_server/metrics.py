"""The metrics of a server: every public name with what it means, its labels, and where its figure is read.

docs/operate/monitor.md has the same table for operators. A label takes few values, all known before: of published
lists, or names of workflows that were served, up to a bound. No id, key or payload is one.

What lives here: that table. What may not: counting, which each part does for itself, and the format (``telemetry``).
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
from perdure_server.runtime.command_processor import Runner
from perdure_server.runtime.dispatcher import Dispatcher
from perdure_server.runtime.missing_code import MissingCode
from perdure_server.runtime.replica import Replica
from perdure_server.security.certificates import Certificates
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.telemetry.prometheus import Figures, Labels, Metric
from perdure_server.timers.window import TimerWindow

INSTANCE_EVENTS: Final[dict[type[facts.Fact], str]] = {
    facts.InstanceStarted: "started",
    facts.InstanceCompleted: "completed",
    facts.InstanceFailed: "failed",
    facts.InstanceCancelled: "cancelled",
    facts.InstanceRetried: "retried",
}

_NO_POOLS: Final = {"async": Pool(), "sync": Pool()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a server that keep figures. There is an executor only once it has been started."""

    api: ApiServer
    runner: Runner
    committer: GroupCommitter
    timers: TimerWindow
    dispatcher: Dispatcher
    executor: Callable[[], InProcessExecutor | None]
    replica: Replica
    missing_code: MissingCode
    certificates: Certificates | None
    output: Output | None
    """None in a process that is not the server's own."""


def metrics_of(parts: Parts) -> list[Metric]:
    """Return the metrics of a server, in the order of the page."""
    return [
        *_of_the_server(parts),
        *_of_calls(parts.api),
        *_of_instances(parts.runner, parts.missing_code),
        *_of_commits(parts.committer),
        *_of_timers(parts.runner, parts.timers),
        *_of_steps(parts),
    ]


def _of_the_server(parts: Parts) -> Iterable[Metric]:
    build = (perdure.__version__, platform.python_version())
    yield Metric(
        name="perdure_build_info",
        kind="gauge",
        help="What runs here; always 1.",
        labels=("version", "python"),
        read=lambda: {build: 1},
    )
    yield Metric(
        name="perdure_ready",
        kind="gauge",
        help="Whether the health service tells that calls should be sent here, 1 or 0.",
        read=_one(lambda: parts.api.ready),
    )
    yield Metric(
        name="perdure_lease_expirations_total",
        kind="counter",
        help="How often the process stood still for so long that it went on under a new id.",
        read=_one(lambda: parts.replica.leases_lost),
    )
    yield Metric(
        name="perdure_tls_certificate_expiry_timestamp_seconds",
        kind="gauge",
        help="Time at which the TLS certificate in use expires, in seconds since 1970; 0 without TLS.",
        read=_one(lambda: parts.certificates.expires_at if parts.certificates else 0.0),
    )
    yield Metric(
        name="perdure_output_lines_dropped_total",
        kind="counter",
        help="Lines of logs and of steps' output that were dropped, because they could not be written.",
        labels=("stream",),
        read=lambda: {
            ("stdout",): parts.output.stdout.dropped if parts.output else 0,
            ("stderr",): parts.output.stderr.dropped if parts.output else 0,
        },
    )


def _of_calls(api: ApiServer) -> Iterable[Metric]:
    admission = api.admission

    def ended() -> Figures:
        figures: dict[Labels, float] = {}
        for rpc, counters in admission.call_counters.copy().items():
            figures[rpc, "OK", ""] = counters.ok
            for (code, reason), count in counters.others.copy().items():
                figures[rpc, code, reason] = count
        return figures

    yield Metric(
        name="perdure_grpc_requests_total",
        kind="counter",
        help="Calls of perdure.v1 that ended, watches included.",
        labels=("rpc", "code", "reason"),
        read=ended,
    )
    yield Metric(
        name="perdure_grpc_request_duration_seconds",
        kind="histogram",
        help="From the message of a call that was let in to its end, without watches.",
        labels=("rpc",),
        read=lambda: {
            (rpc,): counters.seconds
            for rpc, counters in admission.call_counters.copy().items()
            if counters.seconds
        },
    )
    yield Metric(
        name="perdure_grpc_requests_in_flight",
        kind="gauge",
        help="Calls under way, without watches.",
        read=_one(lambda: admission.calls + admission.lists),
    )
    yield Metric(
        name="perdure_grpc_watches_open",
        kind="gauge",
        help="Watches of instances.",
        read=_one(lambda: admission.watches),
    )


def _of_instances(runner: Runner, missing_code: MissingCode) -> Iterable[Metric]:
    yield Metric(
        name="perdure_instances_total",
        kind="counter",
        help="What was committed here to have happened to instances.",
        labels=("workflow", "event"),
        read=lambda: {
            (workflow, INSTANCE_EVENTS[kind]): count
            for workflow, kind, count in runner.facts.counts()
            if kind in INSTANCE_EVENTS
        },
    )
    yield Metric(
        name="perdure_instances_without_code",
        kind="gauge",
        help="Live instances of a workflow version that this server has no code for, counted up to 10,000.",
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
        read=lambda: {(workflow,): count for workflow, _, count in runner.unconsumed.counts()},
    )


def _of_commits(committer: GroupCommitter) -> Iterable[Metric]:
    yield Metric(
        name="perdure_commit_duration_seconds",
        kind="histogram",
        help="How long the store took for a batch of changes, whatever became of it.",
        read=lambda: {(): committer.seconds},
    )
    yield Metric(
        name="perdure_commit_results_total",
        kind="counter",
        help="Changes of instances, by what became of them.",
        labels=("outcome",),
        read=lambda: {(outcome,): count for outcome, count in committer.outcomes.copy().items()},
    )
    yield Metric(
        name="perdure_commit_queue_length",
        kind="gauge",
        help="Changes that wait for a batch.",
        read=_one(lambda: committer.queue_length),
    )


def _of_timers(runner: Runner, timers: TimerWindow) -> Iterable[Metric]:
    yield Metric(
        name="perdure_timers_fired_total",
        kind="counter",
        help="Timers that fired, by themselves or by FireTimer.",
        read=_one(lambda: runner.facts.sum(facts.TimerFired)),
    )
    yield Metric(
        name="perdure_timer_lateness_seconds",
        kind="histogram",
        help="From when a timer was due to its commit; without FireTimer.",
        read=lambda: {(): timers.lateness_seconds},
    )
    yield Metric(
        name="perdure_timers_in_memory",
        kind="gauge",
        help="Timers held in memory, which are due soon.",
        read=_one(lambda: timers.timers),
    )


def _of_steps(parts: Parts) -> Iterable[Metric]:
    runner, dispatcher = parts.runner, parts.dispatcher

    def pools(figure: Callable[[Pool], int]) -> Callable[[], Figures]:
        def read() -> Figures:
            executor = parts.executor()
            found = _NO_POOLS if executor is None else executor.pools()
            return {(name,): figure(pool) for name, pool in found.items()}

        return read

    def loops_lost() -> int:
        executor = parts.executor()
        return 0 if executor is None else executor.loops_lost

    yield Metric(
        name="perdure_step_attempts_started_total",
        kind="counter",
        help="Attempts of steps that were committed to run here.",
        labels=("workflow",),
        read=lambda: {
            (workflow,): count
            for workflow, kind, count in runner.facts.counts()
            if kind is facts.AttemptStarted
        },
    )
    yield Metric(
        name="perdure_step_attempts_finished_total",
        kind="counter",
        help="Attempts of steps that ended here, by how.",
        labels=("workflow", "outcome"),
        read=lambda: {(workflow, outcome): count for workflow, outcome, count in dispatcher.ended.counts()},
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
        help="How many steps may run at once.",
        labels=("pool",),
        read=pools(lambda pool: pool.size),
    )
    yield Metric(
        name="perdure_step_slots_used",
        kind="gauge",
        help="How many steps run, or wait for their results to be stored.",
        labels=("pool",),
        read=pools(lambda pool: pool.used),
    )
    yield Metric(
        name="perdure_step_slots_leaked",
        kind="gauge",
        help="Coroutines and threads of steps that outlived their attempt_timeout.",
        labels=("pool",),
        read=pools(lambda pool: pool.lost),
    )
    yield Metric(
        name="perdure_step_event_loop_restarts_total",
        kind="counter",
        help="Loops of `async def` steps that a step blocked or ended.",
        read=_one(loops_lost),
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
        help="How often the result of a step was not stored and had to be tried again.",
        read=_one(lambda: dispatcher.report_retries),
    )
    yield Metric(
        name="perdure_step_results_dropped_total",
        kind="counter",
        help="Results of steps that were never stored: the steps run again.",
        read=_one(lambda: dispatcher.reports_given_up),
    )


def _one(read: Callable[[], float]) -> Callable[[], Figures]:
    return lambda: {(): read()}
