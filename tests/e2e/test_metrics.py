"""Metrics of a real server: they report its work and no payloads, and an invalid address stops the start."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.faults.process import complaints
from e2e.metrics_app import SECRET
from perdure import AsyncClient, errors
from support.prometheus_scrape import Scrape, scrape
from support.server_process import ServerProcess

pytestmark = pytest.mark.e2e

APP: Final = Path(__file__).with_name("metrics_app.py")
SECONDS_MAX: Final = 90.0


def addresses(server: ServerProcess) -> dict[str, Any]:
    """Return the log line with the addresses that the server listens on."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    found: dict[str, Any] = next(line for line in lines if line["message"] == "started")
    return found


@pytest.fixture
def server(server_process: Callable[..., ServerProcess]) -> ServerProcess:
    return server_process(APP, environment={"PERDURE_METRICS_LISTEN": "127.0.0.1:0"})


async def scraped_once(server: ServerProcess, holds: Callable[[Scrape], bool]) -> Scrape:
    """Scrape until ``holds`` returns True."""
    async with asyncio.timeout(SECONDS_MAX):
        while not holds(found := await scrape(addresses(server)["metrics"])):
            pass
    return found


async def test_metrics_report_the_work_that_was_done(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client:
        for number in range(3):
            await client.start_instance("measured", {"card": SECRET}, instance_id=f"measured-{number}")
        for workflow in ("failing", "endless"):
            await client.start_instance(workflow, instance_id=workflow)
        for name in ("measured-0", "measured-1", "measured-2", "failing", "endless"):
            await client.wait_for_end(name)
        await client.start_instance(
            "waiting", instance_id="waiting", business_key=f"key-{SECRET}", labels={"card": SECRET}
        )
        await client.cancel_instance("waiting", reason=SECRET)
        with pytest.raises(errors.InstanceNotFoundError):
            await client.resume("nobody", "go")
        found = await scrape(addresses(server)["metrics"])

    workflows = ("measured", "failing", "endless", "waiting", "slow")
    instances = {
        (workflow, event): found(f"perdure_instances_{event}_total", workflow=workflow)
        for workflow in workflows
        for event in ("started", "retried")
    } | {
        (workflow, result): found("perdure_instances_finished_total", workflow=workflow, result=result)
        for workflow in workflows
        for result in ("completed", "failed", "cancelled")
    }
    assert {what: count for what, count in instances.items() if count} == {
        ("measured", "started"): 3,
        ("measured", "completed"): 3,
        ("failing", "started"): 1,
        ("failing", "failed"): 1,
        ("endless", "started"): 1,
        ("endless", "failed"): 1,
        ("waiting", "started"): 1,
        ("waiting", "cancelled"): 1,
    }
    ended = {
        (workflow, result): found("perdure_step_attempts_finished_total", workflow=workflow, result=result)
        for workflow in ("measured", "failing", "endless", "waiting", "slow")
        for result in ("ok", "failed", "timed_out", "cancelled", "released")
    }
    assert {what: count for what, count in ended.items() if count} == {
        ("measured", "ok"): 6,
        ("measured", "failed"): 3,
        ("failing", "failed"): 1,
        ("endless", "timed_out"): 1,
    }
    assert found("perdure_step_attempts_started_total", workflow="measured") == 9

    assert found("perdure_grpc_requests_total", method="StartInstance", code="OK", reason="") == 6
    assert found("perdure_grpc_requests_total", method="CancelInstance", code="OK", reason="") == 1
    assert found("perdure_grpc_requests_total", method="Resume", code="OK", reason="") == 0
    assert (
        found("perdure_grpc_requests_total", method="Resume", code="NOT_FOUND", reason="INSTANCE_NOT_FOUND")
        == 1
    )
    assert found("perdure_grpc_request_duration_seconds_count", method="StartInstance") == 6
    assert found("perdure_grpc_request_duration_seconds_bucket", method="StartInstance", le="+Inf") == 6
    assert found("perdure_grpc_request_duration_seconds_sum", method="StartInstance") > 0

    # A retry and a sleep of each measured one. Waits that are over, and cancelled ones, fire nothing.
    assert found("perdure_timers_fired_total") == 6
    assert found("perdure_timer_lateness_seconds_count") == 6
    changes = found("perdure_commit_results_total", result="committed")
    assert changes >= 6 + 9 + 6 + 1
    assert 0 < found("perdure_commit_duration_seconds_count") <= changes
    for result in ("conflict", "refused", "unavailable", "unknown", "overloaded"):
        assert found("perdure_commit_results_total", result=result) == 0
    assert found("perdure_ready") == 1
    assert found("perdure_step_result_retries_total") == found("perdure_step_results_dropped_total") == 0


async def test_nothing_of_an_instance_is_a_label(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client:
        await client.start_instance(
            "measured",
            {"card": SECRET},
            instance_id=f"id-{SECRET}",
            request_id=f"request-{SECRET}",
            business_key=f"key-{SECRET}",
            labels={"card": SECRET},
        )
        await client.wait_for_end(f"id-{SECRET}")
        with pytest.raises(errors.WorkflowNotFoundError):
            await client.start_instance(f"nothing_{SECRET.replace('-', '_')}")
    found = await scrape(addresses(server)["metrics"])

    assert SECRET not in found.text
    assert SECRET.replace("-", "_") not in found.text
    assert all(len(value) <= 64 for value in found.values())


async def test_levels_rise_and_fall_with_what_is_open(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client:
        await client.start_instance("waiting", instance_id="waiting")
        await client.schedule_resume("waiting", "decide", 10_000)
        await client.start_instance("slow", instance_id="slow")
        watch = client.watch_instance("waiting")
        await anext(watch)
        found = await scrape(addresses(server)["metrics"])

        assert found("perdure_grpc_watches_open") == 1
        assert found("perdure_timers_in_memory") == 1
        assert found("perdure_step_slots_used", pool="async") == 1
        assert found("perdure_step_slots", pool="async") == 256

        await watch.aclose()
        await client.resume("waiting", "go")
        await client.cancel_instance("slow")
        found = await scraped_once(
            server,
            lambda found: (
                not found("perdure_grpc_watches_open") and not found("perdure_step_slots_used", pool="async")
            ),
        )

    assert found("perdure_timers_in_memory") == 0
    assert found("perdure_step_attempts_finished_total", workflow="slow", result="cancelled") == 1
    assert found("perdure_grpc_requests_total", method="WatchInstance", code="CANCELLED", reason="") == 1


async def test_a_draining_server_reports_not_ready_and_exits_cleanly(
    server: ServerProcess,
) -> None:
    silent = socket.create_connection(tuple_of(addresses(server)["metrics"]))
    async with AsyncClient(server.address) as client:
        await client.start_instance("slow", instance_id="slow")
        server.signal(signal.SIGTERM)

        await scraped_once(server, lambda found: not found("perdure_ready"))

        server.signal(signal.SIGTERM)  # the step would use up the grace time
    assert await asyncio.to_thread(server.wait) == 130
    silent.close()


async def test_a_client_that_never_speaks_does_not_hold_up_a_stop(server: ServerProcess) -> None:
    with socket.create_connection(tuple_of(addresses(server)["metrics"])) as silent:
        await scrape(addresses(server)["metrics"])

        assert await asyncio.to_thread(server.terminate) == 0
        assert silent.recv(1) == b""
    assert complaints(server.log) == []


async def test_an_instance_that_failed_is_logged_whatever_the_reason(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client:
        for workflow in ("failing", "endless"):
            await client.start_instance(workflow, {"card": SECRET}, instance_id=workflow)
            await client.wait_for_end(workflow)

    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    failed = {line["instance_id"]: line for line in lines if line["message"] == "instance failed"}
    assert set(failed) == {"failing", "endless"}
    assert failed["endless"]["error"] == "AttemptTimeout"
    assert SECRET not in server.log.read_text()


def test_without_the_option_no_metrics_are_served(server_process: Callable[..., ServerProcess]) -> None:
    assert "metrics" not in addresses(server_process(APP))


# --- invalid addresses ------------------------------------------------------------------------------------------------


def failed_start(tmp_path: Path, *arguments: str, code: int = 1) -> tuple[str, str]:
    """Start a server that must not start. Return the lines with its error and its hint."""
    database = tmp_path / "never.db"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "perdure_server.cli", "serve", str(APP)),
            *("--listen", "127.0.0.1:0", "--database", f"sqlite:///{database}", *arguments),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert not database.exists()
    error, hint = done.stderr.splitlines()
    return error, hint


def test_a_port_that_is_taken_ends_the_start_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        error, hint = failed_start(tmp_path, "--metrics-listen", address)

    assert error == (
        f"perdure: error: --metrics-listen {address}: the address is in use, possibly by another server"
    )
    assert hint.startswith("hint: use another address with --metrics-listen")


def test_metrics_on_a_public_address_require_insecure(tmp_path: Path) -> None:
    error, hint = failed_start(tmp_path, "--metrics-listen", "0.0.0.0:0")

    assert "--metrics-listen 0.0.0.0:0" in error
    assert "--insecure" in hint


def test_an_invalid_address_is_rejected_with_its_option(tmp_path: Path) -> None:
    error, _ = failed_start(tmp_path, "--metrics-listen", "9464", code=2)

    assert error == "perdure: error: --metrics-listen: '9464' is not a valid HOST:PORT"


def tuple_of(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
