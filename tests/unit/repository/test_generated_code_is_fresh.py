"""Generated code is up to date: the stubs of the protos, and the blocking client. Proto changes break no client."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "clients/python/perdure/v1"
TOOLS = ROOT / ".venv-tools/bin"
HAND_WRITTEN = {"__init__.py"}


@pytest.fixture
def _tools() -> None:
    assert (TOOLS / "buf").exists(), "the protos' tools are not installed: run `make tools`"


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.iterdir() if path.is_file() and path.name not in HAND_WRITTEN)
    return {path.name: path.read_bytes() for path in files}


needs_tools = pytest.mark.usefixtures("_tools")


@needs_tools
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


@needs_tools
def test_the_protos_are_clean_and_formatted() -> None:
    run(TOOLS / "buf", "lint", "proto")
    run(TOOLS / "buf", "format", "--diff", "--exit-code", "proto")


@needs_tools
def test_the_protos_break_no_client_of_the_last_release() -> None:
    run(TOOLS / "buf", "breaking", "proto", "--against", "proto/baseline.binpb")


GENERATOR = "clients/python/generate_sync.py"
BLOCKING_CLIENT = Path("perdure/client/_sync_client.py")


def test_the_blocking_client_is_generated_from_the_async_client(tmp_path: Path) -> None:
    run(sys.executable, GENERATOR, tmp_path)

    generated = (tmp_path / BLOCKING_CLIENT).read_text()
    assert (ROOT / "clients/python" / BLOCKING_CLIENT).read_text() == generated, "run `make generate`"


@pytest.mark.parametrize("leftover", ["asyncio_only = 1", "x = await_me", "import aio"])
def test_the_generator_rejects_async_code_that_it_does_not_know(tmp_path: Path, leftover: str) -> None:
    copy = tmp_path / "generate_sync.py"
    copy.write_text((ROOT / GENERATOR).read_text())
    source = tmp_path / "perdure/client/_async_client.py"
    source.parent.mkdir(parents=True)
    committed = (ROOT / "clients/python/perdure/client/_async_client.py").read_text()
    source.write_text(f"{committed}\n\n{leftover}\n")

    done = subprocess.run([sys.executable, copy], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert f"asynchronous code is left over: {leftover}" in done.stderr
    assert not (tmp_path / BLOCKING_CLIENT).exists()
