"""Runs scenarios against a driver: fills in names, sends calls, compares the responses and keeps a transcript."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from conformance.drivers import Driver, DriverFailed
from conformance.scenario_table import Names, Scenario, Step, same
from conformance.world import World

WATCH_EVENTS_MAX: Final = 200
NAME_CHARS_MIN: Final = 8
"""Captured texts at least this long are written as their names in a transcript: ids, which differ from run to run."""


@dataclass(slots=True)
class Played:
    """Result of a scenario: the differences from the table, and all responses with names for captured IDs."""

    issues: list[str] = field(default_factory=list)
    answers: list[tuple[str, Any]] = field(default_factory=list)


def play(scenario: Scenario, world: World) -> Played:
    """Play one scenario. A driver that fails is a issue, and is replaced for the next one."""
    return _Play(scenario, world).run()


def differences(reference: Played, played: Played) -> list[str]:
    """Compare two clients' answers to the same scenario, whole: one line for each difference."""
    return [
        f"{step}{line}"
        for (step, expected), (_, got) in zip(reference.answers, played.answers, strict=False)
        for line in same(_comparable(expected), got)
    ]


class _Play:
    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario = scenario
        self._world = world
        self._names = Names()
        self._played = Played()

    def run(self) -> Played:
        try:
            driver = self._world.driver(self._scenario.world)
            for number, step in enumerate(self._scenario.steps, 1):
                for turn in range(1, step.times + 1):
                    if step.times > 1:
                        self._names.values["n"] = str(turn)
                    self._take(driver, step, f"step {number} ({step.what})")
        except DriverFailed as error:
            self._world.forget(self._scenario.world)
            self._played.issues.append(str(error))
        except AssertionError as error:
            self._played.issues.append(f"what should have happened did not: {error}")
        return self._played

    def _take(self, driver: Driver, step: Step, place: str) -> None:
        args = self._names.filled(dict(step.args))
        if not step.is_call:
            told = self._world.do(step.what, args)
            if step.expect is not None:
                self._played.issues += self._names.differences(step.expect, told, place)
            return
        if step.collect is not None:
            answer = self._collect(driver, args, step.collect)
        else:
            number = driver.send(step.what, args)
            for deed in step.meanwhile:
                self._take(driver, deed, f"{place}, meanwhile {deed.what}")
            answer = driver.answer(number)
        self._compare(step, answer, place)

    def _collect(self, driver: Driver, args: dict[str, Any], until: int | str) -> dict[str, Any]:
        """Take events of a watch: so many, or up to its end."""
        events: list[Any] = []
        while len(events) < (WATCH_EVENTS_MAX if until == "end" else int(until)):
            answer = driver.call("watch_next", args)
            if "error" in answer:
                return answer
            events.append(answer["ok"])
            if answer["ok"].get("event") == "timeout" or (
                until == "end" and answer["ok"].get("event") == "end"
            ):
                break
        return {"ok": {"events": events}}

    def _compare(self, step: Step, answer: dict[str, Any], place: str) -> None:
        if step.error is not None:
            expected: dict[str, Any] = {"error": dict(step.error)}
        else:
            expected = {"ok": {} if step.expect is None else step.expect}
        if set(expected) != set(answer):
            self._played.issues.append(f"{place}: answered {answer}, not {expected}")
        else:
            self._played.issues += self._names.differences(expected, answer, place)
        self._played.answers.append((place, self._by_name(answer)))

    def _by_name(self, value: Any) -> Any:
        match value:
            case str():
                texts = ((v, k) for k, v in self._names.values.items() if isinstance(v, str))
                for text, name in sorted(texts, key=lambda pair: -len(pair[0])):
                    if len(text) >= NAME_CHARS_MIN:
                        value = value.replace(text, f"${name}")
                return value
            case dict():
                return {key: self._by_name(item) for key, item in value.items()}
            case list():
                return [self._by_name(item) for item in value]
            case _:
                return value


def _comparable(answer: Any) -> Any:
    # Clients differ in the violations that they add to a failed precondition. For bad input they must agree.
    error = answer.get("error")
    if error is None or error["reason"] == "INVALID_FIELD":
        return answer
    # Messages of gRPC itself contain the size of the request, and the length of request IDs differs between clients.
    other = {"violations"} if error["reason"] else {"violations", "message"}
    return {"error": {key: value for key, value in error.items() if key not in other}}
