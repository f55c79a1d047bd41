"""Commands over a real channel to a stub server: their requests, output and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from click.testing import Result

from perdure.v1 import (
    common_pb2,
    history_pb2,
    instance_service_pb2,
    runner_service_pb2,
    timer_service_pb2,
    workflow_service_pb2,
)
from perdure_server.cli.errors import Exit
from perdure_server.cli.main import app
from support.stub_server import HANG, ErrorResponse, StubServer

Run = Callable[..., Awaitable[Result]]
ORDER = str(Path(__file__).resolve().parents[3] / "examples/order.py")


STARTED = runner_service_pb2.StartInstanceResponse(instance_id="i1", created=True, version=2, revision=3)


# --- commands ----------------------------------------------------------------------------------------------------


async def test_start_prints_the_id_and_nothing_else(server: StubServer, run: Run) -> None:
    server.answers["StartInstance"].append(STARTED)

    result = await run(
        *("start", "order", "--context", '{"items": [9007199254740993]}', "--label", "team=web"),
        *("--start-delay", "10m", "--business-key", "k", "--use-existing", "--request-id", "r"),
    )

    assert (result.exit_code, result.stdout, result.stderr) == (0, "i1\n", "")
    [request] = server.requests["StartInstance"]
    assert request.context.json == '{"items": [9007199254740993]}'
    assert dict(request.opts.labels) == {"team": "web"}
    assert request.opts.start_delay_ms == 600_000
    assert request.opts.conflict_policy == runner_service_pb2.CONFLICT_POLICY_USE_EXISTING
    assert request.opts.request_id == "r"


async def test_start_with_json_prints_the_whole_answer_on_one_line(server: StubServer, run: Run) -> None:
    server.answers["StartInstance"].append(STARTED)

    result = await run("start", "order", "--json")

    assert json.loads(result.stdout) == {"instance_id": "i1", "created": True, "version": 2, "revision": 3}
    assert result.stdout.count("\n") == 1


async def test_a_context_comes_from_a_file_or_from_stdin(
    server: StubServer, run: Run, tmp_path: Path
) -> None:
    server.answers["StartInstance"].append(STARTED)
    (tmp_path / "context.json").write_text('{"from": "file"}')

    await run("start", "order", "--context", f"@{tmp_path}/context.json")
    await run("start", "order", "--context", "@-", stdin='{"from": "stdin"}')

    sent = [json.loads(request.context.json) for request in server.requests["StartInstance"]]
    assert sent == [{"from": "file"}, {"from": "stdin"}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["start", "order", "--context", "{"], "--context is not valid JSON"),
        (["start", "order", "--context", "[1]"], "must be a JSON object"),
        (["start", "order", "--context", '{"a": NaN}'], "NaN is not a JSON value"),
        (["start", "order", "--context", "@/no/such/file"], "cannot read /no/such/file"),
        (["start", "order", "--label", "team"], "write key=value"),
        (["start", "order", "--start-delay", "soon"], "'soon' is not a duration"),
        (["start", "order", "--wait-timeout", "1s"], "--wait-timeout limits --wait"),
        (["watch", "i1", "--wait-timeout", "1"], "'1' is not a duration"),
        (["start"], "Missing argument"),
        (["schedule-resume", "i1", "approval", "-5"], "No such option"),
        (["list", "--state", "asleep"], "'asleep' is not a state"),
        (["get", "i1", "--timeout", "x"], "'x' is not a duration"),
        (["get", "i1", "--tls-ca", "/no/such/file"], "--tls-ca: /no/such/file cannot be read"),
        (["get", "i1", "--tls-cert", "/no/such/file"], "--tls-cert and --tls-key go together"),
    ],
)
async def test_an_invalid_command_line_ends_with_2_and_sends_nothing(
    server: StubServer, run: Run, arguments: list[str], told: str
) -> None:
    result = await run(*arguments)

    assert result.exit_code == Exit.USAGE
    assert told in " ".join(result.stderr.split())
    assert not server.requests


async def test_resume_says_where_the_event_went(server: StubServer, run: Run) -> None:
    server.answers["Resume"] += [
        runner_service_pb2.ResumeResponse(
            disposition=runner_service_pb2.DISPOSITION_DELIVERED, step_ref="approval", revision=7
        ),
        runner_service_pb2.ResumeResponse(
            disposition=runner_service_pb2.DISPOSITION_BUFFERED, step_ref="", revision=8
        ),
    ]

    delivered = await run("resume", "i1", "approved", "--payload", '"yes"', "--step", "approval")
    buffered = await run("resume", "i1", "approved", "--buffer")

    assert delivered.stdout == "delivered to approval, revision 7\n"
    assert buffered.stdout == "buffered for the first step that accepts it, revision 8\n"
    first, second = server.requests["Resume"]
    assert (first.opts.payload.json, first.opts.step_ref, first.opts.buffer) == ('"yes"', "approval", False)
    assert (second.opts.HasField("payload"), second.opts.buffer) == (False, True)


@pytest.mark.parametrize("delay", ["60000", "1m", "60s"])
async def test_schedule_resume_takes_milliseconds_or_a_duration(
    server: StubServer, run: Run, delay: str
) -> None:
    answer = runner_service_pb2.ScheduleResumeResponse(reference="i1.5", revision=5)
    answer.due_time.FromMilliseconds(1_700_000_000_123)
    server.answers["ScheduleResume"].append(answer)

    result = await run("schedule-resume", "i1", "approval", delay)

    assert result.stdout == "i1.5  due 2023-11-14T22:13:20.123Z\n"
    assert server.requests["ScheduleResume"][0].delay_ms == 60_000


# --- looking -----------------------------------------------------------------------------------------------------


def instance(
    state: instance_service_pb2.InstanceState.ValueType = instance_service_pb2.INSTANCE_STATE_WAITING,
) -> instance_service_pb2.Instance:
    found = instance_service_pb2.Instance(
        instance_id="i1",
        workflow="order",
        version=1,
        state=state,
        revision=7,
        input=common_pb2.Payload(json='{"items":[1]}'),
        outputs={"validate": common_pb2.Payload(json='{"item_count":1}')},
    )
    found.step_results.add(
        step_ref="validate", state=instance_service_pb2.STEP_STATE_FINISHED, event="valid", revision=4
    )
    found.active_steps.add(
        step_ref="approval", state=instance_service_pb2.STEP_STATE_WAITING, events=["approved", "rejected"]
    )
    return found


async def test_get_shows_the_instance_step_by_step(server: StubServer, run: Run) -> None:
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=instance()))

    lines = (await run("get", "i1")).stdout.splitlines()

    assert lines[:2] == ["i1  order v1", "state    WAITING, revision 7"]
    assert '  validate  FINISHED     valid  {"item_count":1}' in lines
    assert "  approval  WAITING      for approved, rejected" in lines


async def test_get_with_json_gives_the_payloads_as_values(server: StubServer, run: Run) -> None:
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=instance()))

    document = json.loads((await run("get", "i1", "--json")).stdout)

    assert document["input"] == {"items": [1]}
    assert document["state"] == "WAITING"
    assert document["end_time"] is None


VERBATIM: Final = (
    '{"p": 1.10,  "a": 1e2, "big": 123456789012345678901234567890, "s": "\\u00e9\\n", "p": null}'
)


@pytest.mark.parametrize("source", ["argument", "stdin"])
async def test_json_crosses_the_api_as_it_was_typed(server: StubServer, run: Run, source: str) -> None:
    server.answers["StartInstance"].append(STARTED)
    server.answers["Resume"].append(runner_service_pb2.ResumeResponse())
    typed = VERBATIM if source == "argument" else "@-"

    await run("start", "order", "--context", typed, stdin=VERBATIM)
    await run("resume", "i1", "go", "--payload", typed, stdin=VERBATIM)
    await run("resume", "i1", "go", "--payload", "null")

    [started] = server.requests["StartInstance"]
    resumed = [request.opts.payload.json for request in server.requests["Resume"]]
    assert (started.context.json, *resumed) == (VERBATIM, VERBATIM, "null")


async def test_payloads_are_shown_as_they_are_stored(server: StubServer, run: Run) -> None:
    found = instance(instance_service_pb2.INSTANCE_STATE_COMPLETED)
    found.input.json = VERBATIM
    found.outputs["validate"].json = VERBATIM.replace(",", ",\n") + "\n"
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=found))
    end = instance_service_pb2.WatchEnd(
        revision=7, reason=instance_service_pb2.WATCH_END_REASON_INSTANCE_ENDED
    )
    said = instance_service_pb2.WatchInstanceResponse
    server.answers["WatchInstance"].append([said(snapshot=found), said(end=end)])

    people = (await run("get", "i1")).stdout
    [document] = (await run("get", "i1", "--json")).stdout.splitlines()
    [snapshot, _] = (await run("watch", "i1", "--json")).stdout.splitlines()

    assert f"context  {VERBATIM}\n" in people
    for line in (document, snapshot):
        json.loads(line)
        assert f'"input":{VERBATIM},' in line
        assert f'"outputs":{{"validate":{VERBATIM.replace(",", ", ")}}}' in line


def step_finished(revision: int) -> history_pb2.HistoryEntry:
    fact = history_pb2.StepFinished(step_ref="validate", event="valid", targets=["charge", "reserve"])
    entry = history_pb2.HistoryEntry(revision=revision, step_finished=fact)
    entry.time.FromMilliseconds(1_700_000_000_123)
    return entry


LINE = "    7  2023-11-14T22:13:20.123Z  step finished       validate: valid -> charge, reserve"


async def test_history_prints_a_line_for_each_entry(server: StubServer, run: Run) -> None:
    answer = instance_service_pb2.ListHistoryResponse(entries=[step_finished(7)])
    server.answers["ListHistory"].append(answer)

    people = await run("history", "i1", "--after-revision", "6")
    machines = await run("history", "i1", "--json")

    assert people.stdout.rstrip() == LINE
    assert server.requests["ListHistory"][0].after_revision == 6
    document = json.loads(machines.stdout)
    assert (document["kind"], document["fact"]["targets"]) == ("step_finished", ["charge", "reserve"])


async def test_history_marks_timers_that_a_client_requested(server: StubServer, run: Run) -> None:
    entries = []
    for revision, requested in ((6, False), (7, True)):
        fact = history_pb2.TimerArmed(
            reference=f"i1.{revision}",
            kind=common_pb2.TIMER_KIND_TIMEOUT,
            step_ref="approval",
            client_requested=requested,
        )
        fact.due_time.FromMilliseconds(1_700_000_000_123)
        entries.append(history_pb2.HistoryEntry(revision=revision, timer_armed=fact))
    server.answers["ListHistory"].append(instance_service_pb2.ListHistoryResponse(entries=entries))

    own, requested_line = (await run("history", "i1")).stdout.splitlines()

    due = "timeout of approval due 2023-11-14T22:13:20.123Z"
    assert own.endswith(f"i1.6 {due}")
    assert requested_line.endswith(f"i1.7 {due}, requested by a client")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (instance_service_pb2.INSTANCE_STATE_COMPLETED, Exit.OK),
        (instance_service_pb2.INSTANCE_STATE_FAILED, Exit.NOT_COMPLETED),
        (instance_service_pb2.INSTANCE_STATE_CANCELLED, Exit.NOT_COMPLETED),
    ],
)
async def test_watch_prints_what_happens_and_ends_as_the_instance_does(
    server: StubServer, run: Run, state: instance_service_pb2.InstanceState.ValueType, code: Exit
) -> None:
    said = instance_service_pb2.WatchInstanceResponse
    end = instance_service_pb2.WatchEnd(
        revision=7, reason=instance_service_pb2.WATCH_END_REASON_INSTANCE_ENDED
    )
    server.answers["WatchInstance"] += [
        [said(entry=step_finished(6)), ErrorResponse(grpc.StatusCode.UNAVAILABLE)],
        [said(entry=step_finished(7)), said(end=end)],
    ]
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=instance(state)))

    result = await run("watch", "i1", "--after-revision", "5")

    assert result.stdout.splitlines()[1] == LINE
    assert result.exit_code == code
    assert [request.after_revision for request in server.requests["WatchInstance"]] == [5, 6]


@pytest.mark.parametrize("as_json", [False, True])
async def test_watch_says_on_stderr_that_the_server_is_away_and_back(
    server: StubServer, run: Run, as_json: bool
) -> None:
    said = instance_service_pb2.WatchInstanceResponse
    end = instance_service_pb2.WatchEnd(
        revision=7, reason=instance_service_pb2.WATCH_END_REASON_INSTANCE_ENDED
    )
    away = ErrorResponse(grpc.StatusCode.UNAVAILABLE)
    server.answers["WatchInstance"] += [
        [said(entry=step_finished(6)), away],
        [away],
        [away],
        [said(entry=step_finished(7)), away],
        [said(end=end)],
    ]
    done = instance(instance_service_pb2.INSTANCE_STATE_COMPLETED)
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=done))

    result = await run("watch", "i1", "--after-revision", "5", *(["--json"] if as_json else []))

    notes = [json.loads(line)["note"] if as_json else line for line in result.stderr.splitlines()]
    begin = "" if as_json else "perdure: "
    assert notes == [
        f"{begin}the connection to {server.target} is lost; waiting for up to 5 minutes",
        f"{begin}the server at {server.target} responds again",
    ]
    assert len(result.stdout.splitlines()) == (3 if as_json else 2)


@pytest.mark.parametrize(
    "arguments",
    [("watch", "i1", "--wait-timeout", "300ms"), ("start", "order", "--wait", "--wait-timeout", "300ms")],
)
async def test_a_wait_may_have_a_bound_of_its_own(
    server: StubServer, run: Run, arguments: tuple[str, ...]
) -> None:
    said = instance_service_pb2.WatchInstanceResponse
    server.answers["StartInstance"].append(STARTED)
    server.answers["WatchInstance"].append([said(snapshot=instance()), HANG])

    result = await run(*arguments)

    assert result.exit_code == Exit.TIMED_OUT
    assert result.stderr == (
        "perdure: error: instance 'i1' did not end within 0.3 s (DEADLINE_EXCEEDED)\n"
        "hint: the instance continues; wait longer with --wait-timeout\n"
    )


async def test_list_is_a_table_that_cuts_nothing_off(server: StubServer, run: Run) -> None:
    long_id = "i" * 128
    summary = instance_service_pb2.InstanceSummary(
        instance_id=long_id, workflow="order", version=1, state=instance_service_pb2.INSTANCE_STATE_FAILED
    )
    server.answers["ListInstances"].append(
        instance_service_pb2.ListInstancesResponse(instances=[summary] * 3, next_page_token="t")
    )

    people = await run("list", "--state", "failed", "--limit", "2")
    machines = await run("list", "--limit", "2", "--json")

    head, first, _ = people.stdout.splitlines()
    assert head.split() == ["INSTANCE", "WORKFLOW", "STATE", "KEY", "UPDATED"]
    assert first.split()[:4] == [long_id, "order", "v1", "FAILED"]
    assert len(server.requests["ListInstances"]) == 2  # one page each: the limit was reached
    assert [request.page_size for request in server.requests["ListInstances"]] == [3, 3]
    assert [json.loads(line)["instance_id"] for line in machines.stdout.splitlines()] == [long_id] * 2


@pytest.mark.parametrize("command", ["list", "timers list", "workflows list", "history i1"])
async def test_a_list_that_is_cut_says_so_on_stderr(server: StubServer, run: Run, command: str) -> None:
    server.answers["ListInstances"].append(
        instance_service_pb2.ListInstancesResponse(instances=[instance_service_pb2.InstanceSummary()] * 3)
    )
    server.answers["ListTimers"].append(
        timer_service_pb2.ListTimersResponse(timers=[timer_service_pb2.Timer()] * 3)
    )
    server.answers["ListWorkflows"].append(
        workflow_service_pb2.ListWorkflowsResponse(workflows=[workflow_service_pb2.WorkflowSummary()] * 3)
    )
    server.answers["ListHistory"].append(
        instance_service_pb2.ListHistoryResponse(entries=[step_finished(7)] * 3)
    )

    people = await run(*command.split(), "--limit", "2")
    machines = await run(*command.split(), "--limit", "2", "--json")
    whole = await run(*command.split(), "--limit", "3")
    every = await run(*command.split(), "--limit", "0", "--json")

    assert people.stderr.startswith("perdure: only the first 2 ")
    assert people.stderr.endswith(" are shown; use --limit 4 for more, --limit 0 for all\n")
    note = json.loads(machines.stderr)
    assert (note["more"], note["limit"]) == (True, 2)
    assert len(machines.stdout.splitlines()) == 2
    assert (whole.stderr, every.stderr) == ("", "")
    assert len(every.stdout.splitlines()) == 3


async def test_list_sends_every_filter(server: StubServer, run: Run) -> None:
    summary = instance_service_pb2.InstanceSummary(instance_id="i1", inbox_size=2)
    server.answers["ListInstances"].append(instance_service_pb2.ListInstancesResponse(instances=[summary]))

    listed = await run("list", "--workflow", "order", "--version", "2", "--unconsumed-events", "--json")

    (request,) = server.requests["ListInstances"]
    assert (request.workflow, request.version, request.unconsumed_events) == ("order", 2, True)
    assert json.loads(listed.stdout)["inbox_size"] == 2


async def test_list_continues_over_empty_pages(server: StubServer, run: Run) -> None:
    pages = [
        instance_service_pb2.ListInstancesResponse(next_page_token="a"),
        instance_service_pb2.ListInstancesResponse(next_page_token="b"),
        instance_service_pb2.ListInstancesResponse(
            instances=[instance_service_pb2.InstanceSummary(instance_id="i1")]
        ),
    ]
    server.answers["ListInstances"].extend(pages)

    listed = await run("list", "--json")

    assert json.loads(listed.stdout)["instance_id"] == "i1"
    assert [request.page_token for request in server.requests["ListInstances"]] == ["", "a", "b"]


async def test_the_commands_on_timers(server: StubServer, run: Run) -> None:
    timer = timer_service_pb2.Timer(reference="i1.3", kind=common_pb2.TIMER_KIND_TIMEOUT, step_ref="approval")
    server.answers["ListTimers"].append(timer_service_pb2.ListTimersResponse(timers=[timer]))
    server.answers["GetTimer"].append(timer_service_pb2.GetTimerResponse(timer=timer))
    server.answers["CancelTimer"].append(timer_service_pb2.CancelTimerResponse(revision=9))
    server.answers["FireTimer"].append(timer_service_pb2.FireTimerResponse(revision=9, used=False))

    assert "i1.3" in (await run("timers", "list", "i1")).stdout
    assert "approval" in (await run("timers", "get", "i1.3")).stdout
    assert (await run("timers", "cancel", "i1.3")).stdout == "cancelled at revision 9\n"
    assert "unused" in (await run("timers", "fire", "i1.3")).stdout
    assert server.requests["ListTimers"][0].instance_id == "i1"


async def test_cancel_and_retry(server: StubServer, run: Run) -> None:
    server.answers["CancelInstance"].append(instance_service_pb2.CancelInstanceResponse(revision=9))
    server.answers["RetryInstance"].append(instance_service_pb2.RetryInstanceResponse(revision=10))

    assert (await run("cancel", "i1", "--reason", "twice")).stdout == "cancelled at revision 9\n"
    assert (await run("retry", "i1")).stdout == "continues at revision 10\n"
    assert server.requests["CancelInstance"][0].opts.reason == "twice"


# --- workflows ---------------------------------------------------------------------------------------------------


async def test_validate_needs_no_server(run: Run) -> None:
    assert (await run("workflows", "validate", ORDER)).stdout == "order v1: valid, 10 steps\n"


async def test_validate_lists_every_finding_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad_flow.py").write_text(
        "from perdure import Workflow, wait_for\n"
        "class Bad(Workflow, name='bad'):\n"
        "    start = 'a'\n"
        "    a = wait_for('x', on={'x': 'nowhere'})\n"
        "    b = wait_for('y', on={'y': 'end'})\n"
    )

    people = await run("workflows", "validate", f"{tmp_path}/bad_flow.py")
    machines = await run("workflows", "validate", f"{tmp_path}/bad_flow.py", "--json")

    assert (people.exit_code, machines.exit_code) == (Exit.REJECTED, Exit.REJECTED)
    issues = json.loads(machines.stdout)["issues"]
    assert {issue["step_ref"] for issue in issues} >= {"a", "b"}
    assert people.stderr.count("\n  - ") == len(issues)


async def test_show_draws_the_same_graph_from_a_file_and_from_a_server(server: StubServer, run: Run) -> None:
    workflow = workflow_service_pb2.Workflow(name="nap", version=3, start="rest")
    step = workflow.steps.add(step_ref="rest", kind=common_pb2.STEP_KIND_SLEEP)
    step.sleep.FromMilliseconds(90_000)
    step.transitions.add(event="elapsed", targets=["end"])
    server.answers["GetWorkflow"].append(workflow_service_pb2.GetWorkflowResponse(workflow=workflow))

    drawn = (await run("workflows", "show", "nap")).stdout.splitlines()
    local = (await run("workflows", "show", ORDER)).stdout.splitlines()

    assert drawn == [
        "nap v3  (1 step, starts at rest)",
        "",
        "rest  [sleep; 90s]",
        "  └─ elapsed ─▶ end",
    ]
    assert "approval  [wait; for approved, rejected; at most 1d; joins all of charge, reserve]" in local


async def test_workflows_list(server: StubServer, run: Run) -> None:
    summary = workflow_service_pb2.WorkflowSummary(name="order", version=1, digest="ab" * 32, step_count=9)
    server.answers["ListWorkflows"].append(workflow_service_pb2.ListWorkflowsResponse(workflows=[summary]))

    assert "order" in (await run("workflows", "list")).stdout


# --- the program -------------------------------------------------------------------------------------------------


def test_the_command_tree_loads_without_grpc_rich_or_the_server() -> None:
    program = (
        "import sys, perdure_server.cli.main\n"
        "heavy = {'grpc', 'google.protobuf', 'rich', 'uvloop', 'apsw', 'apscheduler', 'asyncio'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def _commands(group: Any) -> list[tuple[str, Any]]:
    found = []
    for name, command in group.commands.items():
        found += _commands(command) if hasattr(command, "commands") else [(name, command)]
    return found


def test_every_command_shows_an_example_in_its_help() -> None:
    for name, command in _commands(app):
        assert "Example" in (command.epilog or ""), name
        assert "perdure " in command.epilog, name


def test_the_installed_command_ends_with_the_exit_code_of_its_error() -> None:
    program = "import sys; from perdure._cli import main; sys.exit(main())"

    done = subprocess.run(
        [sys.executable, "-c", program, "workflows", "validate", "no_such.py"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (
        2,
        "perdure: error: there is no file no_such.py\nhint: see the command's --help\n",
    )
