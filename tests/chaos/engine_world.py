"""Recordings without a server: only the engine, on one thread, with a seed and its own clock.

Nothing can go wrong here, so every promise holds. The checker must find no violation in these recordings, and must find
each violation that a test then adds to them.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

from chaos.checks_reads import shown_of
from chaos.database import Database, InstanceRow, TimerColumns
from chaos.flows import EVENTS_OF, FLOWS
from chaos.ledger import Recording, Send, StepLine, WatchLine
from chaos.projection import of_entry
from chaos.step_ledger import digest_of
from perdure.model.graph import RESERVED_EVENTS, StepKind, WorkflowGraph
from perdure_server.engine import commands, decide, facts
from perdure_server.engine.commands import Grant, payload
from perdure_server.engine.decide import Decision
from perdure_server.engine.facts import Entry
from perdure_server.engine.rejections import Rejection
from perdure_server.engine.state import Finished, Queued, Running, State
from perdure_server.store.protocol import TaskRow

OWNER = "r-engine"
START_MS = 1_800_000_000_000


class World:
    """Instances, their histories and the ledgers. Everything happens at ``now_ms``, one thing after the other."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.now_ms = START_MS
        self._ns = 0
        self._graphs: dict[str, WorkflowGraph] = {flow.name: flow.__graph__ for flow in FLOWS}
        self._states: dict[str, State] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._payloads: dict[str, dict[int, str]] = {}
        self.sends: list[Send] = []
        self.steps: list[StepLine] = []

    # --- calls -----------------------------------------------------------------------------------------------

    def start(self, workflow: str, instance_id: str, *, delay_ms: int = 0) -> None:
        fields = {
            "workflow": workflow,
            "context": json.dumps({"who": instance_id}),
            "instance_id": instance_id,
            "business_key": "",
            "conflict_policy": 0,
            "start_delay_ms": delay_ms,
            "labels": {"client": "c0"},
        }
        command = commands.StartInstance(
            at=self.now_ms,
            instance_id=instance_id,
            input=payload(str(fields["context"])),
            labels={"client": "c0"},
            start_delay_ms=delay_ms,
            request_id=f"start-{instance_id}",
        )
        decision = decide.start(self._graphs[workflow], command)
        assert isinstance(decision, Decision)
        self._keep(instance_id, decision)
        answer = {"instance_id": instance_id, "created": True, "version": 1, "revision": 1}
        self._send("StartInstance", "", command.request_id, fields, "OK", "", answer)

    def resume(self, instance_id: str, *, buffer: bool = True, event: str = "", body: str = "") -> None:
        events = EVENTS_OF[self._states[instance_id].workflow]
        event = event or self._random.choice(events)
        request_id = f"r{len(self.sends)}"
        command = commands.Resume(
            at=self.now_ms,
            event=event,
            payload=payload(body) if body else None,
            buffer=buffer,
            request_id=request_id,
        )
        fields = {"event": event, "payload": body, "step_ref": "", "buffer": buffer}
        done = self._do(instance_id, command)
        self._answer("Resume", instance_id, request_id, fields, done)

    def schedule(self, instance_id: str, step_ref: str, delay_ms: int) -> None:
        request_id = f"r{len(self.sends)}"
        command = commands.ScheduleResume(
            at=self.now_ms, step_ref=step_ref, delay_ms=delay_ms, request_id=request_id
        )
        fields = {"step_ref": step_ref, "delay_ms": delay_ms}
        self._answer("ScheduleResume", instance_id, request_id, fields, self._do(instance_id, command))

    def cancel(self, instance_id: str) -> None:
        request_id = f"r{len(self.sends)}"
        command = commands.CancelInstance(at=self.now_ms, reason="a whim", request_id=request_id)
        fields = {"reason": "a whim"}
        self._answer("CancelInstance", instance_id, request_id, fields, self._do(instance_id, command))

    def retry(self, instance_id: str) -> None:
        request_id = f"r{len(self.sends)}"
        command = commands.RetryInstance(at=self.now_ms, request_id=request_id)
        self._answer("RetryInstance", instance_id, request_id, {}, self._do(instance_id, command))

    def repeat(self, send: Send) -> None:
        """Send a call that was answered once more: it gets the first answer."""
        answer = dict(send.answer)
        self._send(send.rpc, send.instance_id, send.request_id, dict(send.fields), "OK", "", answer)

    def get(self, instance_id: str) -> None:
        state = self._states[instance_id]
        answer = {"instance_id": instance_id, "revision": state.revision}
        answer |= shown_of(state, self._payloads[instance_id])
        self._send("GetInstance", instance_id, "", {}, "OK", "", answer)

    def list(self) -> None:
        fields = {"labels": {"client": "c0"}, "page_size": 0}
        self._send("ListInstances", "", "", fields, "OK", "", {"ids": list(self._states)})

    # --- time and tasks --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let everything happen that can, until only timers of an hour and more are left."""
        while self._run_task() or self._fire():
            pass

    def _run_task(self) -> bool:
        for instance_id, state in self._states.items():
            for ref, step in state.steps.items():
                if state.is_live and isinstance(step, Queued):
                    grant = Grant(OWNER, 1, frozenset({ref}))
                    taken = self._do(instance_id, commands.TakeTask(at=self.now_ms, step_ref=ref), grant)
                    assert isinstance(taken, Decision)
                    self._attempt(instance_id, ref)
                    return True
        return False

    def _attempt(self, instance_id: str, ref: str) -> None:
        state = self._states[instance_id]
        step = state.steps[ref]
        assert isinstance(step, Running)
        definition = self._graphs[state.workflow].steps[ref]
        assert definition.kind is StepKind.TASK
        bodies = self._payloads[instance_id]
        seen = {
            name: json.loads(bodies[ended.output.revision] if ended.output else "{}")
            for name, ended in state.steps.items()
            if isinstance(ended, Finished) and ended.ended < step.started
        }
        token = f"{instance_id}/{ref}"
        self._ns += 1
        self.steps.append(
            StepLine(
                token=token,
                attempt=step.attempt,
                pid=1,
                at_ns=self._ns,
                saw=digest_of(json.loads(bodies[1]), seen),
            )
        )
        own = sorted(set(definition.on) - RESERVED_EVENTS - definition.events)
        command: commands.Command
        self.now_ms += self._random.randrange(5)
        if self._random.random() < 0.2 and step.failures < 3:
            command = commands.FailTask(
                at=self.now_ms,
                step_ref=ref,
                attempt=step.attempt,
                type="Deliberate",
                message="on purpose",
                retryable=ref != "crack",
            )
        elif definition.events and (not own or self._random.random() < 0.7):
            command = commands.SuspendTask(at=self.now_ms, step_ref=ref, attempt=step.attempt)
        else:
            output = payload(json.dumps({"attempt": step.attempt, "token": token}))
            command = commands.FinishTask(
                at=self.now_ms,
                step_ref=ref,
                attempt=step.attempt,
                event=self._random.choice(own),
                output=output,
            )
        assert isinstance(self._do(instance_id, command), Decision)

    def _fire(self) -> bool:
        soon = [
            (timer.due_at, instance_id, timer.revision)
            for instance_id, state in self._states.items()
            for timer in state.timers.values()
            if timer.delay_ms < 3_600_000
        ]
        if not soon:
            return False
        due_at, instance_id, revision = min(soon)
        self.now_ms = max(self.now_ms, due_at) + self._random.randrange(3)
        assert isinstance(self._do(instance_id, commands.FireTimer(at=self.now_ms, timer=revision)), Decision)
        return True

    # --- the ledgers -----------------------------------------------------------------------------------------

    def _do(
        self, instance_id: str, command: commands.Command, grant: Grant = commands.NO_GRANT
    ) -> Decision | Rejection:
        state = self._states[instance_id]
        decision = decide.decide(self._graphs[state.workflow], state, command, grant)
        if isinstance(decision, Decision):
            self._keep(instance_id, decision)
        return decision

    def _keep(self, instance_id: str, decision: Decision) -> None:
        self._states[instance_id] = decision.state
        self._entries.setdefault(instance_id, []).extend(decision.entries)
        self._payloads.setdefault(instance_id, {}).update(decision.payloads)

    def _answer(
        self,
        rpc: str,
        instance_id: str,
        request_id: str,
        fields: dict[str, Any],
        done: Decision | Rejection,
    ) -> None:
        if isinstance(done, Rejection):
            self._send(rpc, instance_id, request_id, fields, "FAILED_PRECONDITION", type(done).__name__, {})
            return
        cause = done.cause
        answer: dict[str, Any] = {"instance_id": instance_id, "revision": cause.revision}
        match cause.fact:
            case facts.EventBuffered(step_ref=ref):
                answer |= {"disposition": "BUFFERED", "step_ref": ref}
            case facts.StepFinished(step_ref=ref):
                answer |= {"disposition": "DELIVERED", "step_ref": ref}
            case facts.TimerArmed(due_at=due_at):
                answer |= {"reference": f"{instance_id}.{cause.revision}", "due_ms": due_at}
        self._send(rpc, instance_id, request_id, fields, "OK", "", answer)

    def _send(
        self,
        rpc: str,
        instance_id: str,
        request_id: str,
        fields: dict[str, Any],
        status: str,
        reason: str,
        answer: dict[str, Any],
    ) -> None:
        self._ns += 2
        self.sends.append(
            Send(
                op=f"op-{len(self.sends)}",
                rpc=rpc,
                instance_id=instance_id,
                request_id=request_id,
                fields=fields,
                invoked_ns=self._ns - 1,
                invoked_ms=self.now_ms,
                answered_ns=self._ns,
                answered_ms=self.now_ms,
                status=status,
                reason=reason,
                answer=answer,
            )
        )

    def recording(self) -> Recording:
        """Return all of it, with a watch of each instance that reconnects once, in the middle."""
        watches: list[WatchLine] = []
        for number, (instance_id, entries) in enumerate(self._entries.items()):
            common: dict[str, Any] = {
                "watch": f"w-{number}",
                "instance_id": instance_id,
                "seen_ms": self.now_ms,
            }
            half = len(entries) // 2
            for stream, after in ((1, 0), (2, half)):
                watches.append(WatchLine(**common, stream=stream, what="open", after=after))
                part = entries[:half] if stream == 1 else entries[half:]
                watches += [
                    WatchLine(
                        **common,
                        stream=stream,
                        what="entry",
                        revision=entry.revision,
                        entry=of_entry(instance_id, entry),
                    )
                    for entry in part
                ]
            watches.append(WatchLine(**common, stream=0, what="closed", revision=len(entries)))
        return Recording(
            sends=tuple(self.sends),
            watches=tuple(watches),
            steps=tuple(self.steps),
            database=self._database(),
            quiet=True,
            ended_ms=self.now_ms,
        )

    def _database(self) -> Database:
        names = (
            "instance_id workflow version status revision business_key labels created_at updated_at ended_at"
        )
        instances = {
            instance_id: InstanceRow(
                state=state,
                columns={name: getattr(state, name) for name in names.split()},
                live_business_key=None,
            )
            for instance_id, state in self._states.items()
        }
        timers = {
            instance_id: {
                timer.revision: TimerColumns(
                    timer.kind.value, timer.step_ref, timer.due_at, timer.delay_ms, timer.client_requested
                )
                for timer in state.timers.values()
            }
            for instance_id, state in self._states.items()
        }
        tasks = {
            instance_id: {
                ref: TaskRow(instance_id, ref, state.workflow, 1, step.attempt, "")
                for ref, step in state.steps.items()
                if isinstance(step, Queued)
            }
            for instance_id, state in self._states.items()
        }
        return Database(
            instances=instances,
            histories={instance_id: tuple(entries) for instance_id, entries in self._entries.items()},
            payloads=self._payloads,
            timers=timers,
            tasks=tasks,
            requests={},
            graphs={(g.name, g.version, g.digest): g for g in self._graphs.values()},
        )


def good_recording(seed: int) -> Recording:
    """Return a recording of some calls on some instances, with nothing wrong in it."""
    world = World(seed)
    chance = random.Random(seed)
    for number in range(10):
        flow = FLOWS[number % len(FLOWS)]
        instance_id = f"i{number}"
        world.start(flow.name, instance_id, delay_ms=chance.choice((0, 0, 40)))
        world.get(instance_id)
        if flow.name == "chaos_choice":
            for body in ('{"n": 1}', "", "[2]"):
                world.resume(instance_id, event="nod", body=body)
        sound = [ref for ref, step in flow.__graph__.steps.items() if "timeout" in step.on]
        if sound and chance.random() < 0.7:
            world.schedule(instance_id, chance.choice(sound), chance.choice((1, 20, 4_000_000)))
        if number in (3, 6):
            world.run()
            world.get(instance_id)
        world.resume(instance_id, buffer=chance.random() < 0.5, body='{"n": 7}')
        if chance.random() < 0.1:
            world.cancel(instance_id)
    world.list()
    world.run()
    for number in range(10):
        world.retry(f"i{number}")
        world.resume(f"i{number}", body="17")
    world.run()
    world.start("chaos_choice", "i10")
    world.run()
    for number in range(11):
        world.get(f"i{number}")
    for send in [s for s in world.sends if s.status == "OK" and s.request_id][::5]:
        world.repeat(send)
    return world.recording()


def with_history(recording: Recording, instance_id: str, entries: tuple[Entry, ...]) -> Recording:
    """Return the recording with another history of one instance."""
    database = recording.database
    histories = {**database.histories, instance_id: entries}
    return replace(recording, database=replace(database, histories=histories))
