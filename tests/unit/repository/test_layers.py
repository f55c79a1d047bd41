"""What import-linter cannot say: what the pure parts may import at all, and that imports stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SERVER = ROOT / "server/perdure_server"
ENGINE = SERVER / "engine"
LEAVES = {"config", "security", "telemetry"}
GRAPH = ROOT / "clients/python/perdure/model/graph.py"


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module


def is_pure(module: str) -> bool:
    return (
        module.split(".", maxsplit=1)[0] in sys.stdlib_module_names
        or module in {"perdure", "perdure.model.graph"}
        or (module + ".").startswith("perdure_server.engine.")
    )


def test_the_engine_imports_only_the_standard_library_and_the_graph() -> None:
    found = {(path.name, module) for path in [*ENGINE.rglob("*.py"), GRAPH] for module in imports_of(path)}

    assert {pair for pair in found if not is_pure(pair[1])} == set()


def test_the_leaves_use_no_floor() -> None:
    files = [path for leaf in LEAVES for path in [SERVER / f"{leaf}.py", *(SERVER / leaf).rglob("*.py")]]
    found = {(path.name, module) for path in files if path.exists() for module in imports_of(path)}

    of_the_server = {pair for pair in found if pair[1].startswith("perdure_server.")}
    assert {pair for pair in of_the_server if pair[1].split(".")[1] not in LEAVES} == set()


@pytest.mark.parametrize("module", ["perdure", "perdure.model.graph", "perdure_server.engine"])
def test_grpc_is_not_loaded_by(module: str) -> None:
    program = f"import sys, {module}; sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_library_of_metrics_is_not_loaded_where_nobody_asks_for_them() -> None:
    program = "import sys, perdure_server.app; sys.exit('prometheus_client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
