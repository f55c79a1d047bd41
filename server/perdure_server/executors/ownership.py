"""Ownership of code on the step event loop: every task and callback belongs to one attempt or one lifespan.

A context variable carries the owner, so sub-tasks, callbacks and tasks that libraries create for a step inherit it.
Another thread cannot read that variable. Tasks therefore keep a reference to their owner, and the loop notes the owner
of the callback that it runs. `owner_of_running_code` reads both from any thread.

Owns: attribution. Must not: decide what happens to the owner of a loop that is blocked (``in_process``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, TypeAlias, cast

from perdure_server.engine.value_type import value
from perdure_server.runtime.dispatch.protocol import TaskKey
from perdure_server.runtime.ports import TaskToRun
from perdure_server.telemetry.logs import RateLimitedLogger

log = logging.getLogger(__name__)


@value(frozen=True, slots=True)
class StepOwner:
    """One attempt of a step."""

    workflow: str
    version: int
    key: TaskKey

    def fields(self) -> dict[str, str | int]:
        """Return the fields that identify the attempt in a log line."""
        instance_id, step_ref, attempt = self.key
        return {
            "workflow": self.workflow,
            "version": self.version,
            "step_ref": step_ref,
            "instance_id": instance_id,
            "attempt": attempt,
        }


@dataclass(frozen=True, slots=True)
class LifespanOwner:
    """The lifespan of a workflow, or a task that it started."""

    name: str

    def fields(self) -> dict[str, str | int]:
        """Return the fields that identify the lifespan in a log line."""
        return {"lifespan": self.name}


Owner: TypeAlias = StepOwner | LifespanOwner

OWNER: Final[ContextVar[Owner | None]] = ContextVar("perdure_owner", default=None)
"""Owner of the running code. None: code of perdure itself."""


def step_owner(task: TaskToRun, key: TaskKey) -> StepOwner:
    """Return the owner for an attempt. It does not hold a payload."""
    return StepOwner(task.workflow, task.version, key)


class OwnedTask(asyncio.Task[Any]):
    """A task that keeps its owner. The task of an attempt, its root, ignores cancellation by other steps.

    A step that cancels ``asyncio.all_tasks()`` then ends only itself and not its neighbours.
    """

    # Slots for what each task has, set by `create_owned_task` and `create_root_task`: an `__init__` would double the
    # cost of a task, and an attribute without a slot costs it a dict. Class attributes for what few tasks have.
    __slots__ = ("is_root", "owner")
    owner: Owner | None
    is_root: bool
    is_ended_by_loop = False
    cancelled_by: StepOwner | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the task. Returns False without effect if the caller belongs to another step."""
        caller = OWNER.get()
        if isinstance(caller, StepOwner):
            if getattr(self, "is_root", False) and caller != self.owner:
                _FOREIGN_CANCEL.warning()
                return False
            self.cancelled_by = caller
        return super().cancel(msg)

    def end_with_loop(self) -> None:
        """Cancel the task because its loop ends. A task that was being cancelled already keeps its own reason."""
        self.is_ended_by_loop = not self.cancelling()
        self.cancel()


_FOREIGN_CANCEL: Final = RateLimitedLogger(log, "step tried to cancel code of another step, ignored")


def create_owned_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
) -> OwnedTask:
    """Create a task that keeps its owner: the task factory of the step event loop."""
    task = OwnedTask(coro, loop=loop, **options)
    context: Context | None = options.get("context")
    task.owner = OWNER.get() if context is None else context.get(OWNER)
    task.is_root = False
    return task


def create_root_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], owner: StepOwner
) -> OwnedTask:
    """Create the task of an attempt."""
    task = OwnedTask(coro, loop=loop)
    task.owner = owner
    task.is_root = True
    return task


_UNKNOWN: Final = type(None)


class _OwnedCallbacks:
    """Mixin for an event loop: notes the owner of the callback that runs."""

    callback_owner: Owner | None = None
    task_step: type = _UNKNOWN
    """Type of the callbacks by which C tasks run their next step. It has no public name, so the first one sets it."""

    base_call_soon: Callable[..., Any]
    """`call_soon` of the loop's own class. Called without `super()`, which costs as much as the call itself."""

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        # A task keeps its owner by itself, and most callbacks are steps of tasks. This path has to be short.
        if type(callback) is self.task_step:
            return self.base_call_soon(callback, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None or isinstance(getattr(callback, "__self__", None), asyncio.Task):
            if self.task_step is _UNKNOWN and type(callback).__name__ == "TaskStepMethWrapper":
                _OwnedCallbacks.task_step = type(callback)
            if len(args) == 1:  # a task that reports its end; without unpacking, it costs a third
                return self.base_call_soon(callback, args[0], context=context)
            return self.base_call_soon(callback, *args, context=context)
        return self.base_call_soon(self._run_owned, owner, callback, args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None:
            return super().call_soon_threadsafe(callback, *args, context=context)  # type: ignore[misc]
        return super().call_soon_threadsafe(self._run_owned, owner, callback, args, context=context)  # type: ignore[misc]

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None:
            return super().call_later(delay, callback, *args, context=context)  # type: ignore[misc]
        return super().call_later(delay, self._run_owned, owner, callback, args, context=context)  # type: ignore[misc]

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None:
            return super().call_at(when, callback, *args, context=context)  # type: ignore[misc]
        return super().call_at(when, self._run_owned, owner, callback, args, context=context)  # type: ignore[misc]

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        return super().add_reader(fd, self._run_owned, OWNER.get(), callback, args)  # type: ignore[misc]

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        return super().add_writer(fd, self._run_owned, OWNER.get(), callback, args)  # type: ignore[misc]

    def _run_owned(self, owner: Owner | None, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        # Saved and restored: a deadline wrapped by `call_later` and again by `call_at` nests.
        before, self.callback_owner = self.callback_owner, owner
        try:
            callback(*args)
        finally:
            self.callback_owner = before


def new_steps_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop that attributes its tasks and callbacks to owners. Uses uvloop if it is installed."""
    base: type[asyncio.AbstractEventLoop]
    try:
        import uvloop
    except ImportError:
        base = asyncio.SelectorEventLoop
    else:
        base = uvloop.Loop
    members = {"base_call_soon": base.call_soon}
    loop: asyncio.AbstractEventLoop = type("StepsEventLoop", (_OwnedCallbacks, base), members)()
    loop.set_task_factory(cast("Any", create_owned_task))
    return loop


def owner_of_running_code(loop: asyncio.AbstractEventLoop) -> Owner | None:
    """Return the owner of the code that the loop runs at this moment, None if unknown or idle. From any thread."""
    task = asyncio.current_task(loop)
    if task is None:
        return getattr(loop, "callback_owner", None)
    if isinstance(task, OwnedTask):
        return getattr(task, "owner", None)  # absent for a moment if the task started inside its constructor
    # A step replaced the loop's task factory.
    context = getattr(task, "get_context", lambda: None)()  # new in Python 3.12
    return None if context is None else context.get(OWNER)


# --- the place of running code -------------------------------------------------------------------------------


def _folders(*names: str | None) -> tuple[str, ...]:
    return tuple({os.path.join(name, "") for name in names if name})


_OWN_FOLDERS: Final = (
    "<frozen",
    *_folders(sysconfig.get_path("stdlib"), os.path.dirname(os.path.dirname(__file__))),
)
"""Folders of the standard library and of the server."""

_PACKAGES: Final = _folders(
    sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()
)
"""Folders of installed packages, inside the standard library's or apart from it."""


def place_of_thread(thread: threading.Thread) -> str:
    """Return ``file:line in function`` of the innermost frame of user code, empty if there is none.

    Prefers code outside of installed packages, which is where workflows usually are.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    packaged: FrameType | None = None
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGES):
            packaged = packaged or frame
        elif not name.startswith(_OWN_FOLDERS):
            break
        frame = frame.f_back
    found = frame or packaged
    return "" if found is None else _place(found)


def _place(frame: FrameType) -> str:
    text = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
    # File names can hold any character, line breaks included.
    return text if text.isprintable() else ascii(text)[1:-1]
