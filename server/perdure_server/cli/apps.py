"""From APP to workflow classes: a ``.py`` file or an importable module, loaded, with errors that say what to mend."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from perdure import Finding, Workflow, WorkflowInvalid, graph_of, workflows_in


class AppError(Exception):
    """An APP that cannot be served. ``findings`` are what validation found, if that is why."""

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


def load_workflows(apps: Sequence[str]) -> tuple[type[Workflow], ...]:
    """Return the workflow classes of all ``apps``, each once. Raises `AppError`."""
    found: dict[tuple[str, int], type[Workflow]] = {}
    for app in apps:
        workflows = workflows_in(load_module(app))
        if not workflows:
            raise AppError(
                f"{app} has no workflow: no class in it is a perdure.Workflow with a name=, as in "
                '`class OrderFlow(Workflow, name="order", version=1)`'
            )
        for workflow in workflows:
            if wants := _arguments(workflow):
                raise AppError(
                    f"{_place(workflow)} cannot be served: its __init__ asks for {wants}, and a server gives nothing; "
                    "open what its steps share in lifespan"
                )
            graph = graph_of(workflow)
            other = found.setdefault((graph.name, graph.version), workflow)
            if other is not workflow:
                raise AppError(
                    f"{_place(other)} and {_place(workflow)} are both workflow {graph.name!r} version "
                    f"{graph.version}; give one another name or version"
                )
    return tuple(found.values())


def load_module(app: str) -> ModuleType:
    """Import an APP. Raises `AppError`."""
    try:
        if app.endswith(".py") or "/" in app:
            return _from_file(Path(app))
        return _from_name(app)
    except WorkflowInvalid as error:
        count = len(error.findings)
        raise AppError(
            f"{app}: workflow {error.workflow!r} has {count} {'mistake' if count == 1 else 'mistakes'}",
            error.findings,
        ) from error
    except AppError:
        raise
    except SyntaxError as error:
        raise AppError(f"{error.filename or app}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise AppError(f"{app} cannot be imported: {_told(error)}") from error


def _from_file(path: Path) -> ModuleType:
    if path.is_dir():
        raise AppError(f"{path} is a directory; name a .py file in it")
    if not path.is_file():
        raise AppError(f"there is no file {path}")
    if path.suffix != ".py":
        raise AppError(f"{path} is no Python file; its name must end in .py")
    path = path.resolve()
    _importable(path.parent)
    # The file's own name, so that its neighbours can import it; another one where that is taken (by the standard
    # library, or by a file of the same name elsewhere).
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or name in sys.stdlib_module_names or not name.isidentifier():
        name = f"_perdure_app_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_name(name: str) -> ModuleType:
    _importable(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppError(f"there is no module {name}; name a module or a .py file") from error
        raise


def _importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _arguments(workflow: type[Workflow]) -> str:
    """The arguments that an object of the class cannot be made without."""
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


def _place(workflow: type[Workflow]) -> str:
    return f"{workflow.__module__}.{workflow.__qualname__}"


def _told(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
