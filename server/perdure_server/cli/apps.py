"""Loading of an APP, a ``.py`` file or an importable module, and of its workflow classes. Errors have a hint."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from perdure import ValidationIssue, Workflow, WorkflowInvalidError, find_workflows, graph_of
from perdure_server.cli.streams import interrupts_end_the_process, streams_kept

WORKING_FOLDER_GONE: Final = "the working folder cannot be read"

TEXT_CHARS_MAX: Final = 1_000
"""Maximum length of an error's own text in a message."""

_GIVEN_NAME: Final = "_perdure_app_"
"""Start of the module name of a file whose own name is taken."""

_TYPE_NAME: Final = type.__dict__["__name__"].__get__  # a metaclass may have code behind the attribute


class AppError(Exception):
    """An APP that cannot be served. ``issues`` are those of an invalid workflow, otherwise empty."""

    def __init__(self, message: str, issues: Sequence[ValidationIssue] = ()) -> None:
        super().__init__(message)
        self.issues = tuple(issues)


def load_workflows(apps: Sequence[str]) -> tuple[type[Workflow], ...]:
    """Return the workflow classes of all ``apps``, each once.

    Raises:
        AppError: An APP cannot be loaded. All exceptions of its code become an `AppError`.
    """
    places = [_Place(app) for app in apps]  # before code of an APP can change the working folder
    found: dict[tuple[str, int], type[Workflow]] = {}
    with interrupts_end_the_process(), streams_kept():
        for place in places:
            try:
                _collect(place, found)
            except AppError:
                raise
            except BaseException as error:
                raise AppError(f"{place.app} cannot be loaded: {_summary(error)}") from error
    return tuple(found.values())


def load_module(app: str) -> ModuleType:
    """Import an APP.

    Raises:
        AppError: The import failed. All exceptions of its code become an `AppError`.
    """
    return _load(_Place(app))


class _Place:
    """Location of an APP: a file, or a module that can be in the working folder."""

    def __init__(self, app: str) -> None:
        self.app = app
        self.is_file = app.endswith(".py") or "/" in app or app.startswith(".")
        try:
            self.path = Path(app).absolute() if self.is_file else Path.cwd()
        except OSError as error:
            raise AppError(f"{WORKING_FOLDER_GONE}: {error.strerror}; change to another one") from error


def _collect(place: _Place, found: dict[tuple[str, int], type[Workflow]]) -> None:
    workflows = find_workflows(_load(place))
    if not workflows:
        raise AppError(
            f"{place.app} has no workflow; define one, as in "
            f'`class OrderFlow(Workflow, name="order", version=1)`{_other_file(place)}'
        )
    for workflow in workflows:
        if wants := _arguments(workflow):
            raise AppError(
                f"{_name_of(workflow)} cannot be served: its __init__ requires {wants}, but the server passes no "
                "arguments; open shared resources in lifespan"
            )
        graph = graph_of(workflow)
        other = found.setdefault((graph.name, graph.version), workflow)
        if other is not workflow:
            raise AppError(
                f"{_name_of(other)} and {_name_of(workflow)} are both workflow {graph.name!r} version "
                f"{graph.version}; change the name or version of one of them"
            )


def _other_file(place: _Place) -> str:
    """Return a hint to serve a file whose name is also the name of a module that Python found first."""
    name = f"{place.app}.py"
    return (
        f"; to serve the file, write ./{name}" if not place.is_file and (place.path / name).is_file() else ""
    )


def _load(place: _Place) -> ModuleType:
    app = place.app
    try:
        return _from_file(place.path, app) if place.is_file else _from_name(app, place.path)
    except WorkflowInvalidError as error:
        count = len(error.issues)
        raise AppError(
            f"{app}: workflow {error.workflow!r} has {count} {'mistake' if count == 1 else 'mistakes'}",
            error.issues,
        ) from error
    except AppError:
        raise
    except SyntaxError as error:
        line = f", line {error.lineno}" if isinstance(error.lineno, int) else ""
        raise AppError(f"{error.filename or app}{line}: {_text_of(error, error.msg)}") from error
    except SystemExit as error:
        raise AppError(
            f"{app} called sys.exit({_text_of(error, error.code)}) while it was imported{_at(error)}; "
            'move that call below `if __name__ == "__main__":`'
        ) from error
    except BaseException as error:
        raise AppError(f"{app} cannot be imported: {_summary(error)}") from error


def _from_file(path: Path, app: str) -> ModuleType:
    if path.is_dir():
        raise AppError(f"{app} is a directory; name a .py file in it")
    if not path.is_file():
        raise AppError(f"there is no file {app}")
    if path.suffix != ".py":
        raise AppError(f"{app} is not a Python file; use a file whose name ends in .py")
    path = path.resolve()
    _importable(path.parent)
    # The module gets the file's own name, so that files in its folder can import it. It gets a generated name if the
    # name belongs to the standard library, an installed package or a file of the same name in another folder.
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or not name.isidentifier() or _is_taken(name, path):
        name = f"{_GIVEN_NAME}{abs(hash(path)):x}"
        if name in sys.modules:
            return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _is_taken(name: str, path: Path) -> bool:
    if name in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin != str(path)


def _from_name(name: str, folder: Path) -> ModuleType:
    _importable(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppError(f"there is no module {name}; name a module or a .py file") from error
        raise


def _importable(folder: Path) -> None:
    """Make the modules of a folder importable. Python searches it last, so that they do not replace other modules."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _arguments(workflow: type[Workflow]) -> str:
    """Return the names of the required arguments of the class, separated by commas."""
    try:
        parameters = inspect.signature(workflow).parameters.values()
    except (TypeError, ValueError):
        return ""
    needed = (
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    )
    return ", ".join(needed)


def _name_of(workflow: type[Workflow]) -> str:
    module = workflow.__module__
    if module.startswith(_GIVEN_NAME):
        return f"{workflow.__qualname__} in {sys.modules[module].__file__}"
    return f"{module}.{workflow.__qualname__}"


def _summary(error: BaseException) -> str:
    text = _text_of(error, error)
    name = _TYPE_NAME(type(error))
    return f"{name}: {text}{_at(error)}" if text else f"{name}{_at(error)}"


def _text_of(error: BaseException, value: object) -> str:
    """Return the text of an error, at most `TEXT_CHARS_MAX` characters. ``str`` of the error can raise."""
    try:
        text = str(value)
    except BaseException:  # noqa: BLE001 - `__str__` can be user code
        return f"a {_TYPE_NAME(type(error))} without a text"
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 1]}…"


def _at(error: BaseException) -> str:
    # Only the last frame is needed. A recursion has too many frames for the traceback module.
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace is not None else ""
