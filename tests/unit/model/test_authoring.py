"""A workflow as a class: what becomes of it, and what is said about mistakes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import order
import perdure
from perdure import (
    SUSPEND,
    Context,
    Join,
    Outcome,
    RetryPolicy,
    StepError,
    Suspend,
    Workflow,
    WorkflowInvalidError,
    find_workflows,
    graph_of,
    handlers_of,
    sleep,
    step,
    wait_for,
)
from perdure.model.graph import RetryDefinition, StepKind, from_json, to_json
from perdure.model.validation import RESERVED_REFS, IssueCode, validate


def context(**values: Any) -> Context:
    return Context(input=values, instance_id="i-1", workflow="order", version=1, step_ref="charge")


def codes(error: pytest.ExceptionInfo[WorkflowInvalidError]) -> set[tuple[str, str | None]]:
    return {(issue.code.value, issue.step_ref) for issue in error.value.issues}


# The order example is the class form of the design, and refunds whatever it does not ship.


def test_the_order_becomes_the_graph_of_the_design() -> None:
    graph = graph_of(order.OrderFlow)
    assert (graph.name, graph.version, graph.start) == ("order", 1, "validate")
    assert {ref: dict(step.on) for ref, step in graph.steps.items()} == {
        "validate": {"valid": ("charge", "reserve"), "invalid": ("end",)},
        "charge": {"charged": ("approval", "sold_out"), "declined": ("release",)},
        "reserve": {"reserved": ("approval",), "error": ("sold_out",)},
        "approval": {"approved": ("cooldown",), "rejected": ("refund",), "timeout": ("escalate",)},
        "cooldown": {"elapsed": ("ship",)},
        "ship": {"shipped": ("end",), "error": ("refund",)},
        "sold_out": {"told": ("refund",), "error": ("refund",)},
        "release": {"released": ("end",)},
        "refund": {"refunded": ("end",)},
        "escalate": {"escalated": ("refund",), "error": ("refund",)},
    }
    approval, cooldown, reserve = graph.steps["approval"], graph.steps["cooldown"], graph.steps["reserve"]
    assert (approval.kind, approval.join, approval.timeout_ms) == (StepKind.WAIT, Join.ALL, 86_400_000)
    assert (cooldown.kind, cooldown.sleep_ms) == (StepKind.SLEEP, 30_000)
    assert (reserve.events, reserve.timeout_ms) == (frozenset({"reserved"}), 3_600_000)
    assert graph.steps["charge"].retry == RetryDefinition(max_attempts=5, initial_ms=200, max_ms=30_000)


def test_the_order_without_its_join_is_a_finding() -> None:
    with pytest.raises(WorkflowInvalidError) as error:

        class Silent(order.OrderFlow, name="order", version=2):
            approval = wait_for("approved", on={"approved": ["cooldown", "refund", "escalate"]})

    assert codes(error) == {("join_undeclared", "approval")}


def test_a_declined_card_is_an_outcome_and_an_unknown_one_an_error() -> None:
    flow = order.OrderFlow()
    assert flow.charge(context(card="declined")).event == "declined"
    assert flow.charge(context()).output["payment_id"] == "pay:i-1/charge"
    with pytest.raises(StepError, match="no such card") as error:
        flow.charge(context(card="unknown"))
    assert not error.value.retryable


@pytest.mark.parametrize("items", [None, [], "lamp", 3])
async def test_an_order_of_nothing_is_invalid(items: Any) -> None:
    assert (await order.OrderFlow().validate(context(items=items))).event == "invalid"


# What becomes of a class


class Small(Workflow, name="small"):
    start = "ask"

    @step(on={"answered": "rest"}, awaits="answered", attempt_timeout="10s", join="any")
    async def ask(self, ctx: Context) -> Suspend:
        return SUSPEND

    rest = sleep("5m", then=["end"], join=Join.AUTO)


def test_version_one_is_the_default_and_the_class_knows_its_name() -> None:
    assert (Small.name, Small.version, graph_of(Small).version) == ("small", 1, 1)
    assert graph_of(Small()) is graph_of(Small)


def test_a_task_without_a_policy_has_the_default_one_in_its_graph() -> None:
    assert graph_of(Small).steps["ask"].retry == RetryDefinition()
    assert graph_of(Small).steps["rest"].retry is None


def test_one_event_may_be_awaited_without_braces() -> None:
    assert graph_of(Small).steps["ask"].events == {"answered"}


def test_an_authored_graph_survives_json() -> None:
    for flow in (Small, order.OrderFlow):
        assert from_json(to_json(graph_of(flow))) == graph_of(flow)


def test_code_is_bound_for_tasks_only() -> None:
    flow = order.OrderFlow()
    code = handlers_of(flow)
    assert set(code) == {
        "validate", "charge", "reserve", "ship", "sold_out", "release", "refund", "escalate"
    }  # fmt: skip
    assert code["charge"] == flow.charge


class Base(Workflow):
    start = "first"

    @step(on={"ok": "second"}, retry=RetryPolicy(max_attempts=9))
    def first(self, ctx: Context) -> Outcome:
        return Outcome("ok", by="base")

    @step(on={"ok": "end"})
    def second(self, ctx: Context) -> Outcome:
        return Outcome("ok")


class Audited:
    @step(on={"ok": "end"})
    def audit(self, ctx: Context) -> Outcome:
        return Outcome("ok")


def test_a_class_without_a_name_is_no_workflow() -> None:
    for unnamed in (Base, type("Plain", (order.OrderFlow,), {})):
        with pytest.raises(TypeError, match="give its class a name="):
            graph_of(unnamed)


def test_steps_come_from_bases_and_mixins_and_overriding_replaces_them_in_place() -> None:
    class Full(Audited, Base, name="full", version=3):
        @step(on={"ok": "audit"})
        def second(self, ctx: Context) -> Outcome:
            return Outcome("ok")

    assert list(graph_of(Full).steps) == ["first", "second", "audit"]
    assert graph_of(Full).steps["second"].targets == {"audit"}


def test_an_override_without_the_decorator_keeps_the_arrows() -> None:
    class Stubbed(Base, name="stubbed"):
        def first(self, ctx: Context) -> Outcome:
            return Outcome("ok", by="stub")

    retry = graph_of(Stubbed).steps["first"].retry
    assert retry is not None
    assert retry.max_attempts == 9
    result = handlers_of(Stubbed())["first"](context())
    assert isinstance(result, Outcome)
    assert result.output == {"by": "stub"}


def test_a_step_set_to_none_is_dropped() -> None:
    class Short(Base, name="short"):
        start = "second"
        first = None  # type: ignore[assignment]  # the point of the test

    assert list(graph_of(Short).steps) == ["second"]


def test_a_wait_may_take_the_place_of_a_task() -> None:
    class Manual(Base, name="manual"):
        first = wait_for("done", on={"done": "second"})  # type: ignore[assignment]  # the point of the test

    assert graph_of(Manual).steps["first"].kind is StepKind.WAIT
    assert set(handlers_of(Manual())) == {"second"}


def test_two_versions_live_side_by_side_and_each_is_found_once() -> None:
    class Newer(Small, name="small", version=2):
        rest = sleep("1s", then="end")

    module = types.ModuleType("flows")
    vars(module).update(Workflow=Workflow, Base=Base, Small=Small, alias=Small, Newer=Newer, other=3)
    assert find_workflows(module) == [Small, Newer]
    assert graph_of(Small).digest != graph_of(Newer).digest


async def test_a_lifespan_does_nothing_unless_it_is_overridden() -> None:
    class Shared(Small, name="shared"):
        client = ""

        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            self.client = "open"
            yield
            self.client = "closed"

    async with Small().lifespan():
        pass
    flow = Shared()
    async with flow.lifespan():
        assert flow.client == "open"
    assert flow.client == "closed"


# What is said about mistakes


def test_every_mistake_of_a_class_is_reported_at_once() -> None:
    with pytest.raises(WorkflowInvalidError) as error:

        class Wrong(Workflow, name="Wrong", version=0):
            start = "frist"

            @step(
                on={"ok": "secnd"},
                attempt_timeout="10 s",
                retry=RetryPolicy(initial_backoff="soon", max_attempts=0),
            )
            def first(self, ctx: Context) -> Outcome:
                return Outcome("ok")

            @step(on={"ok": "end"}, join="most", retry=3)  # type: ignore[arg-type]  # the point of the test
            def second(self) -> Outcome:
                return Outcome("ok")

            @step(on={"ok": "end"})  # type: ignore[type-var]  # the point of the test
            def third(self, ctx: Context) -> Any:
                yield Outcome("ok")

            gate = wait_for("open", "error", timeout="11000d", on={"open": "end"})
            nap = sleep("0s", then="end")
            lifespan = sleep("1s", then="end")  # type: ignore[assignment]  # the point of the test
            end = wait_for(on={})

    assert codes(error) == {
        ("name_invalid", None),
        ("version_invalid", None),
        ("start_unknown", None),
        ("target_unknown", "first"),
        ("duration_invalid", "first"),
        ("retry_invalid", "first"),
        ("join_unknown", "second"),
        ("retry_invalid", "second"),
        ("step_code", "second"),
        ("step_code", "third"),
        ("event_reserved", "gate"),
        ("duration_invalid", "gate"),
        ("timeout_without_arrow", "gate"),
        ("duration_invalid", "nap"),
        ("name_reserved", "lifespan"),
        ("name_reserved", "end"),
        ("wait_without_event", "end"),
    }
    assert all(f"[{code}]" in str(error.value) for code, _ in codes(error))


def test_what_beginners_get_wrong_is_named_with_its_mend() -> None:
    with pytest.raises(WorkflowInvalidError) as error:

        class Slips(Workflow, name="slips"):
            start = "frist"

            @step(on=["ok"])  # type: ignore[arg-type]  # the point of the test
            async def first(self, ctx: Context) -> Outcome:
                return Outcome("ok")

            @step(on={"ok": first})  # type: ignore[dict-item]  # the point of the test
            async def second(self, ctx: Context) -> Outcome:
                return Outcome("ok")

            @step(on={"ok": ["second", "first", "forgotten"]})
            async def third(self, ctx: Context) -> Outcome:
                return Outcome("ok")

            async def forgotten(self, ctx: Context) -> Outcome:
                return Outcome("ok")

            gate = wait_for(["open"], timeout="1 day", on={"open": "end", "timeout": "end"})  # type: ignore[arg-type]

    hints = {(issue.code, issue.step_ref): issue.hint for issue in error.value.issues}
    assert hints.pop((IssueCode.STEP_CODE, "forgotten")) == "write @step(on={...}) above it"
    assert "on={'done': 'end'}" in hints.pop((IssueCode.MALFORMED, "first"))
    assert "name a step, a list of steps, or 'end'" in hints.pop((IssueCode.MALFORMED, "second"))
    assert "name each event" in hints.pop((IssueCode.MALFORMED, "gate"))
    assert hints.keys() == {
        (IssueCode.START_UNKNOWN, None),
        (IssueCode.TARGET_UNKNOWN, "third"),
        (IssueCode.DURATION_INVALID, "gate"),
    }
    assert str(error.value).count("ms, s, m, h, d") == 1, "a hint is said once"


def test_a_start_that_is_nearly_a_step_is_offered_that_step() -> None:
    with pytest.raises(
        WorkflowInvalidError, match=r"start is 'frist', which is no step .*; did you mean 'first'"
    ):

        class Typo(Workflow, name="typo"):
            start = "frist"

            @step(on={"ok": "end"})
            async def first(self, ctx: Context) -> Outcome:
                return Outcome("ok")


@pytest.mark.parametrize("ref", ["start", "name", "version", "lifespan", "_private"])
def test_an_attribute_of_workflow_is_no_step(ref: str) -> None:
    with pytest.raises(WorkflowInvalidError) as error:
        type(
            "Odd",
            (Workflow,),
            {ref: wait_for("ok", on={"ok": "end"}), "start": ref}
            | ({"start": wait_for("ok", on={"ok": "end"})} if ref == "start" else {}),
            name="odd",
        )  # type: ignore[call-overload]  # class keywords through type()
    assert any(code in {"name_reserved", "name_invalid"} and where == ref for code, where in codes(error))


def test_every_public_attribute_of_workflow_is_reserved() -> None:
    public = {name for name in {*dir(Workflow), *Workflow.__annotations__} if not name.startswith("_")}
    assert public | {"end"} == RESERVED_REFS


@pytest.mark.parametrize("on", [None, "end", {"ok": 3}, {"ok": None}, {3: "end"}, {"ok": [["end"]]}])
def test_arrows_of_the_wrong_type_are_a_finding(on: Any) -> None:
    with pytest.raises(WorkflowInvalidError, match=r"\[malformed\]"):
        type("Odd", (Workflow,), {"start": "a", "a": wait_for("ok", on=on)}, name="odd")  # type: ignore[call-overload]  # class keywords through type()


@pytest.mark.parametrize("awaits", [3, [["ok"]], {"ok": 1}.items()])
def test_awaits_of_the_wrong_type_is_a_finding(awaits: Any) -> None:
    def ask(self: Any, ctx: Context) -> Suspend:
        return SUSPEND

    members = {"start": "ask", "ask": step(on={"ok": "end"}, awaits=awaits)(ask)}
    with pytest.raises(WorkflowInvalidError, match=r"\[malformed\]"):
        type("Odd", (Workflow,), members, name="odd")  # type: ignore[call-overload]  # class keywords through type()


def test_a_version_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match="only a class with a name"):

        class Nameless(Workflow, version=2):
            pass


def test_only_functions_are_decorated() -> None:
    with pytest.raises(TypeError, match="def or async def"):
        step(on={"ok": "end"})(staticmethod(lambda ctx: Outcome("ok")))  # type: ignore[type-var]  # the point of the test


# What a step is given and gives back


def test_an_outcome_takes_any_name_as_output() -> None:
    outcome = Outcome("done", event="launch", self=1)
    assert (outcome.event, outcome.output) == ("done", {"event": "launch", "self": 1})
    assert outcome == Outcome("done", event="launch", self=1) != Outcome("done")
    assert repr(Outcome("done", cents=5)) == "Outcome('done', cents=5)"


def test_the_idempotency_key_is_the_same_on_every_attempt() -> None:
    assert context().idempotency_key == "i-1/charge"


def test_a_step_error_is_retryable_unless_it_says_otherwise() -> None:
    assert StepError("later").retryable
    assert str(StepError("never", retryable=False)) == "never"
    assert repr(SUSPEND) == "SUSPEND"


# The package and its command


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_importing_perdure_and_writing_a_workflow_loads_no_grpc() -> None:
    source = Path(order.__file__).read_text()
    done = run_python(
        f"import sys\nexec({source!r})\n"
        "loaded = [name for name in sys.modules if name.split('.')[0] in ('grpc', 'google', 'perdure_server')]\n"
        "assert not loaded, loaded"
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_listed() -> None:
    assert sorted(perdure.__all__) == sorted(set(perdure.__all__))
    assert set(perdure.__all__) <= set(dir(perdure))
    for name in perdure.__all__:
        assert getattr(perdure, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = perdure.nothing


CLI = """
import sys, types
from perdure import _cli
server, cli = types.ModuleType("perdure_server"), types.ModuleType("perdure_server.cli")
server.__path__ = []
cli.main = types.FunctionType(compile({body!r}, "cli.py", "exec"), cli.__dict__)
sys.modules |= {modules}
sys.exit(_cli.main())
"""


def test_without_the_server_the_command_prints_the_pip_line() -> None:
    sdk = str(Path(perdure.__file__).parents[1])
    code = f"import sys; sys.path.append({sdk!r}); from perdure import _cli; sys.exit(_cli.main())"
    # -I -S: no site-packages, so nothing but the standard library and the SDK's source.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'perdure[server]'" in done.stderr


def test_without_what_the_server_needs_the_command_prints_the_pip_line() -> None:
    done = run_python(
        CLI.format(
            body="import apscheduler_of_old", modules='{"perdure_server": server, "perdure_server.cli": cli}'
        )
    )
    assert done.returncode == 2
    assert "apscheduler_of_old is not installed" in done.stderr


def test_a_bug_inside_the_server_is_not_taken_for_a_missing_package() -> None:
    done = run_python(
        CLI.format(
            body="import perdure_server.gone", modules='{"perdure_server": server, "perdure_server.cli": cli}'
        )
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_module_that_an_app_misses_is_the_apps_affair() -> None:
    body = "exec('import lost', {'__name__': 'app'})"
    done = run_python(CLI.format(body=body, modules='{"perdure_server": server, "perdure_server.cli": cli}'))
    assert done.returncode == 1
    assert "No module named 'lost'" in done.stderr


def test_validation_agrees_with_the_class() -> None:
    assert validate(graph_of(order.OrderFlow)) == []
    assert asyncio.iscoroutinefunction(order.OrderFlow.validate)


def test_a_number_too_large_for_a_float_is_a_finding() -> None:
    with pytest.raises(WorkflowInvalidError, match="multiplier"):

        class Huge(Workflow, name="huge", version=1):
            start = "work"

            @step(on={"done": "end"}, retry=RetryPolicy(multiplier=10**400))
            def work(self, ctx: Context) -> Outcome:
                return Outcome("done")
