"""The first workflow of the README completes, also without a context and a payload."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from perdure_server.testing import WorkflowTest
from support.doc_pages import REPOSITORY
from support.snippets import blocks_of


@pytest.fixture
def hello(tmp_path: Path) -> Any:
    """The workflow of the README's ``hello.py``."""
    (text,) = [block.text for block in blocks_of(REPOSITORY / "README.md") if block.argument == "hello.py"]
    path = tmp_path / "readme_hello.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("readme_hello", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Hello


async def test_the_first_workflow_runs_without_a_context_and_without_a_payload(hello: Any) -> None:
    async with WorkflowTest(hello) as t:
        instance = await t.start()
        instance.assert_waiting("reply")
        await instance.resume("replied")
        instance.assert_state("COMPLETED")
        assert instance.outputs["greet"] == {"text": "Hello, stranger!"}
        assert instance.outputs["thank"] == {"said": "nothing"}


async def test_the_first_workflow_returns_its_input_and_the_reply(hello: Any) -> None:
    async with WorkflowTest(hello) as t:
        instance = await t.start({"name": "Ada"})
        await instance.resume("replied", {"text": "Good morning"})
        assert instance.outputs["greet"] == {"text": "Hello, Ada!"}
        assert instance.outputs["thank"] == {"said": "Good morning"}
