"""The protos are the source of truth: the committed stubs are theirs, and their changes break no client."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "clients/python/perdure/v1"
TOOLS = ROOT / ".venv-tools/bin"
HAND_WRITTEN = {"__init__.py"}


@pytest.fixture(autouse=True)
def _tools_are_installed() -> None:
    assert (TOOLS / "buf").exists(), "the protos' tools are not installed: run `make tools`"


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.iterdir() if path.is_file() and path.name not in HAND_WRITTEN)
    return {path.name: path.read_bytes() for path in files}


def test_the_committed_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    run("bash", "proto/generate.sh", tmp_path)

    committed, generated = files_in(COMMITTED), files_in(tmp_path / "perdure/v1")

    assert sorted(committed) == sorted(generated), "run `make generate`"
    stale = sorted(name for name in generated if committed[name] != generated[name])
    assert not stale, f"run `make generate`: {stale}"


def test_every_proto_has_its_stubs() -> None:
    stubs = (name for name in files_in(COMMITTED) if name.endswith("_pb2.py"))
    protos = {path.stem for path in (ROOT / "proto/perdure/v1").glob("*.proto")}

    assert protos == {name.removesuffix("_pb2.py") for name in stubs}


def test_the_protos_are_clean_and_formatted() -> None:
    run(TOOLS / "buf", "lint", "proto")
    run(TOOLS / "buf", "format", "--diff", "--exit-code", "proto")


def test_the_protos_break_no_client_of_the_last_release() -> None:
    run(TOOLS / "buf", "breaking", "proto", "--against", "proto/baseline.binpb")
