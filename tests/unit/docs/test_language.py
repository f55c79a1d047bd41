"""The texts of the project use the words and constructions of its style, in every language."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import language
from support.language import RULES, Hit, hits_in, hits_of_repository
from support.prose import Text, prose_of

BROKEN = {
    "mend": "The message has the mend.",
    "anew": "Timers are planned anew.",
    "told": "The caller was told `DATABASE_UNAVAILABLE`.",
    "makes no sense": "This option makes no sense here.",
    "what lives here": "The facts. What lives here: classes.",
    "nobody": "A mistake that nobody sees.",
    "arrow": "Takes the `error` arrow.",
    "verb": "The three verbs of the API.",
    "floor": "Imports of a floor.",
    "lane": "An instance's lane is full.",
    "beside": "The port beside it.",
    "is no": "The payload is no JSON.",
    "as no": "It counts as no failure.",
    "for ever": "Facts are stored\nfor ever.",
    "refused": "The call was refused.",
    "go on": "Reads go on.",
    "begin": "The step begins.",
    "stands": "Here it stands.",
    "look after": "A task that looks after timers.",
}
KEPT = (
    "There is no default.",
    "It is no longer used, and there are no others.",
    "The system reports connection refused.",
    "SHIP stands for shipping.",
    "Set `--mend`, ``anew`` or {@code told}.",
    "BEGIN IMMEDIATE",
)


@pytest.mark.parametrize("sentence", BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found_in_a_sentence(sentence: str, tmp_path: Path) -> None:
    assert len(hits_in("x.md", read(tmp_path, "x.md", sentence))) == 1


@pytest.mark.parametrize("sentence", KEPT)
def test_ordinary_english_passes(sentence: str, tmp_path: Path) -> None:
    assert hits_in("x.md", read(tmp_path, "x.md", sentence)) == []


def test_every_rule_has_a_broken_sentence() -> None:
    unused = [
        rule for rule in RULES if not rule.opening and not any(map(rule.pattern.search, BROKEN.values()))
    ]

    assert unused == []


@pytest.mark.parametrize("word", ["How", "What", "Whether", "Why", "Where", "When", "Which", "Who"])
def test_a_question_word_does_not_open_a_docstring_comment_or_cell(word: str, tmp_path: Path) -> None:
    places = {
        "x.py": f'X = 1\n"""{word} many changes wait."""\n\n# {word} it waits.\n',
        "x.md": f"| a | b |\n|---|---|\n| c | {word} it waits. |\n| d | {word} |\n",
        "x.proto": f"// {word} it waits.\nmessage X {{\n  int32 a = 1; // {word} else.\n}}\n",
        "x.java": f"/**\n * {word} it waits.\n */\nclass X {{}} /* {word} */\n",
    }
    for name, source in places.items():
        assert len(hits_in(name, read(tmp_path, name, source))) == 2, name
    assert hits_in("x.md", read(tmp_path, "x.md", f"{word} it waits, see below.\n")) == []


@pytest.mark.parametrize(
    ("name", "source", "lines"),
    [
        ("x.py", '"""Mend."""\ndef f():\n    """Anew."""\n    # It\n    # stands.\n    f()  # told\n', [1, 3, 5, 6]),
        ("x.py", 'log.info("call was refused by %s", x)\nraise E(f"{x} is no name")\nY = "refused"\n', [1, 2]),
        ("x.py", 'app.option("--x", help="Begin here.")\nSQL = """\n  for ever\n"""\n', [1, 3]),
        ("x.md", "# The verbs\n\nA paragraph,\nanew.\n\n```\nanew\n```\n\n<!--\nanew -->\n- told\n", [1, 4, 12]),
        ("x.proto", "// A message.\n// It is told.\nmessage X {}\n", [2]),
        ("x.go", '// Begin starts.\nvar x = "call refused here" // anew\nvar y = "refused"\n', [1, 2, 2]),
        ("x.ts", "/** Anew. */\nthrow new Error(`call ${x} was refused`);\nconst a = 'it was told';\n", [1, 2, 3]),
        ("x.java", '// Told.\nthrow new E("it was refused");\n', [1, 2]),
        ("x.sql", "-- Told.\nSELECT 1 -- anew\n", [1, 2]),
        ("x.yaml", "a: 1  # told\n# anew\n", [1, 2]),
    ],
)  # fmt: skip
def test_texts_are_read_in_every_language(name: str, source: str, lines: list[int], tmp_path: Path) -> None:
    assert [hit.line for hit in hits_in(name, read(tmp_path, name, source))] == lines


LONG = "a_result_of_an_attempt_that_was_released_before_the_drain_does_not_count_any_more"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("test_x.py", f"async def test_{LONG}() -> None: ...\n"),
        ("x_test.go", f"func Test{LONG.title().replace('_', '')}(t *testing.T) {{}}\n"),
        ("x.test.ts", f"  test('{LONG.replace('_', ' ')}', async () => {{}});\n"),
        ("X.java", f"  @Test\n  void {LONG.title().replace('_', '')}() {{}}\n"),
    ],
)
def test_a_long_test_name_is_found(name: str, source: str, tmp_path: Path) -> None:
    assert [hit.instead for hit in hits_in(name, read(tmp_path, name, source))] == ["75 characters"]


def test_no_text_of_the_project_breaks_a_rule() -> None:
    assert "\n".join(map(str, hits_of_repository())) == ""


@pytest.mark.parametrize(
    ("arguments", "status", "printed"),
    [
        ([], 1, ["a.py:3", "b/c.py:4"]),
        (["b/", "x.py"], 1, ["b/c.py:4"]),
        (["x.py"], 0, []),
    ],
)
def test_the_command_prints_the_hits_in_the_given_paths(
    arguments: list[str],
    status: int,
    printed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hits = [
        Hit(path="a.py", line=3, words="anew", instead="again"),
        Hit(path="b/c.py", line=4, words="told", instead="return"),
    ]
    monkeypatch.setattr(language, "hits_of_repository", lambda: hits)

    assert language.main(arguments) == status
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()] == printed


def read(folder: Path, name: str, source: str) -> list[Text]:
    path = folder / name
    path.write_text(source)
    return prose_of(path)
