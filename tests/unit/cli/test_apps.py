"""Loading of an APP, and its errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_server.cli.apps import AppError, load_workflows

FLOW = """
from perdure import Context, Outcome, Workflow, step

class Flow(Workflow, name="{name}", version={version}):
    start = "only"

    @step(on={{"done": "{target}"}})
    async def only(self, ctx: Context) -> Outcome:
        return Outcome("done")
"""


@pytest.fixture(autouse=True)
def _imports_are_undone() -> Iterator[None]:
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, file: str, *, name: str = "flow", version: int = 1, target: str = "end") -> str:
    path = folder / file
    path.write_text(FLOW.format(name=name, version=version, target=target))
    return str(path)


def refusal(*apps: str) -> AppError:
    with pytest.raises(AppError) as caught:
        load_workflows(apps)
    return caught.value


def test_a_file_is_loaded_with_its_workflows(tmp_path: Path) -> None:
    [workflow] = load_workflows([write(tmp_path, "shop_flow.py")])

    assert (workflow.name, workflow.version) == ("flow", 1)


def test_a_class_with_required_arguments_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path, "shop_flow.py")
    Path(path).write_text(
        Path(path).read_text() + "    def __init__(self, bank, *, key=None): self.bank = bank\n"
    )

    assert (
        "its __init__ requires bank, but the server passes no arguments; open shared resources in lifespan"
        in str(refusal(path))
    )


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "shop_flow.py")
    (tmp_path / "shop_app.py").write_text("from shop_flow import Flow")

    assert [workflow.name for workflow in load_workflows([str(tmp_path / "shop_app.py")])] == ["flow"]


def test_a_workflow_that_two_apps_show_is_loaded_once(tmp_path: Path) -> None:
    own = write(tmp_path, "shop_flow.py")
    (tmp_path / "shop_app.py").write_text("from shop_flow import Flow")

    assert len(load_workflows([own, str(tmp_path / "shop_app.py"), own])) == 1


def test_a_module_is_loaded_by_its_name_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    write(tmp_path / "shop", "flows.py")
    monkeypatch.chdir(tmp_path)

    assert [workflow.name for workflow in load_workflows(["shop.flows"])] == ["flow"]


def test_a_file_called_like_a_standard_module_leaves_that_module_alone(tmp_path: Path) -> None:
    import queue

    load_workflows([write(tmp_path, "queue.py")])

    assert sys.modules["queue"] is queue


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert str(refusal(f"{tmp_path}/nope.py")) == f"there is no file {tmp_path}/nope.py"


def test_a_folder_and_a_file_of_another_type_have_different_errors(tmp_path: Path) -> None:
    (tmp_path / "flow.txt").touch()

    assert "is a directory" in str(refusal(f"{tmp_path}/"))
    assert str(refusal(".")) == ". is a directory; name a .py file in it"
    assert "use a file whose name ends in .py" in str(refusal(f"{tmp_path}/flow.txt"))


def test_a_missing_module_is_named() -> None:
    assert str(refusal("no_such_shop.flows")) == (
        "there is no module no_such_shop.flows; name a module or a .py file"
    )


def test_a_missing_module_is_reported_with_the_importing_line(tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text("\nimport no_such_library\n")

    message = str(refusal(str(tmp_path / "shop_app.py")))

    assert "No module named 'no_such_library'" in message
    assert "shop_app.py, line 2" in message


def test_a_syntax_error_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text("\n\nclass:\n")

    assert "shop_app.py, line 3: " in str(refusal(str(tmp_path / "shop_app.py")))


def test_a_file_without_a_workflow_says_what_one_looks_like(tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text("from perdure import Workflow")

    assert 'class OrderFlow(Workflow, name="order", version=1)' in str(refusal(str(tmp_path / "shop_app.py")))


def test_an_invalid_workflow_comes_with_its_findings(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "shop_flow.py", target="nowhere"))

    assert "workflow 'flow' has" in str(error)
    assert any("nowhere" in str(issue) for issue in error.issues)


def test_a_file_named_twice_is_loaded_once(tmp_path: Path) -> None:
    for name in ("shop_twice.py", "queue.py"):
        file = write(tmp_path, name)
        assert len(load_workflows([file, file])) == 1


def test_files_with_equal_names_are_named_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    first, second = write(tmp_path, "shop_same.py"), write(tmp_path / "old", "shop_same.py")

    assert str(refusal(first, second)).startswith(
        f"shop_same.Flow and Flow in {second} are both workflow 'flow' version 1"
    )


def test_two_workflows_with_the_same_name_and_version_are_rejected(tmp_path: Path) -> None:
    first, second = write(tmp_path, "shop_one.py"), write(tmp_path, "shop_two.py")

    assert "shop_one.Flow and shop_two.Flow are both workflow 'flow' version 1" in str(refusal(first, second))
