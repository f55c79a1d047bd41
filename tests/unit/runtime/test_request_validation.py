"""The rules for what a caller may send, one at a time. Over a channel: ``tests/e2e/bad_input``."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.graph import DURATION_MS_MAX
from perdure.model.validation import VERSION_MAX
from perdure_server.engine.commands import PAYLOAD_BYTES_MAX
from perdure_server.engine.rejections import PayloadTooLarge
from perdure_server.runtime.request_validation import (
    NESTING_MAX,
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    VIOLATIONS_MAX,
    InvalidRequestError,
    Violations,
)


def blamed(violations: Violations) -> list[str]:
    try:
        violations.raise_if_invalid()
    except InvalidRequestError as error:
        return [violation.path for violation in error.violations]
    return []


def refuses(rule: Callable[[Violations], object]) -> bool:
    violations = Violations()
    rule(violations)
    return bool(blamed(violations))


def test_nothing_is_raised_for_sound_fields() -> None:
    violations = Violations()

    assert violations.name("workflow", "order_2") == "order_2"
    assert violations.event("event", "approved") == "approved"
    assert violations.instance_id("instance_id", "Tenant-7:order.2024_11") == "Tenant-7:order.2024_11"
    assert violations.request_id("opts.request_id", "0198c0de-0000-7000-8000-000000000000")
    assert violations.reference("reference", "order.2024.17") == ("order.2024", 17)
    assert violations.labels("labels", {"team": "ops", "A.b/c-d_e": "süd"}) == {
        "team": "ops",
        "A.b/c-d_e": "süd",
    }
    assert violations.delay_ms("delay_ms", DURATION_MS_MAX) == DURATION_MS_MAX
    violations.raise_if_invalid()


def test_all_violations_come_in_the_order_in_which_they_were_found() -> None:
    violations = Violations()
    violations.name("workflow", "")
    violations.event("event", "timeout")
    violations.delay_ms("delay_ms", 0)

    assert blamed(violations) == ["workflow", "event", "delay_ms"]


def test_no_call_makes_the_server_keep_more_violations_than_it_tells() -> None:
    violations = Violations()
    for number in range(VIOLATIONS_MAX + 50):
        violations.name(f"states[{number}]", "")

    assert len(blamed(violations)) == VIOLATIONS_MAX


def test_a_bad_field_is_told_before_a_large_payload() -> None:
    violations = Violations()
    violations.payload("context", json.dumps("x" * PAYLOAD_BYTES_MAX))
    violations.name("workflow", "")

    assert blamed(violations) == ["workflow"]


def test_the_size_of_a_payload_counts_in_bytes() -> None:
    violations = Violations()
    violations.payload("opts.payload", json.dumps("ä" * (PAYLOAD_BYTES_MAX // 2), ensure_ascii=False))

    with pytest.raises(PayloadTooLarge) as caught:
        violations.raise_if_invalid()
    assert (caught.value.field, caught.value.size_bytes) == ("opts.payload", PAYLOAD_BYTES_MAX + 2)


WORDS = {
    "Persian": "می\u200cخواهم",
    "Malayalam": "നന്\u200dമ",
    "Sinhala": "ශ්\u200dරී",
    "family emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
}


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS.keys())
def test_words_spelled_with_joiners_are_accepted(word: str) -> None:
    violations = Violations()

    assert violations.text("opts.business_key", word, 256) == word
    assert violations.labels("opts.labels", {"name": word}) == {"name": word}
    violations.raise_if_invalid()


FORBIDDEN = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2064\u2066\u2067\u2068\u2069\ufeff",
    "\ud800",
    "\udfff",
]


@pytest.mark.parametrize("character", FORBIDDEN, ids=lambda character: f"U+{ord(character):04X}")
def test_invisible_and_direction_characters_are_rejected(character: str) -> None:
    text = f"a{character}b"

    assert refuses(lambda violations: violations.text("opts.business_key", text, 256))
    assert refuses(lambda violations: violations.labels("opts.labels", {"name": text}))


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
def test_names_and_ids_take_no_joiners(joiner: str) -> None:
    text = f"a{joiner}b"

    assert refuses(lambda violations: violations.name("workflow", text))
    assert refuses(lambda violations: violations.event("event", text))
    assert refuses(lambda violations: violations.instance_id("instance_id", text))
    assert refuses(lambda violations: violations.request_id("opts.request_id", text))
    assert refuses(lambda violations: violations.labels("opts.labels", {text: ""}))


@given(st.text(max_size=200))
def test_an_instance_id_holds_nothing_that_a_shell_a_path_or_a_log_line_could_misread(text: str) -> None:
    if not refuses(lambda violations: violations.instance_id("instance_id", text)):
        assert 1 <= len(text) <= 128
        assert text.isascii()
        assert not set(text) & set(" \t\n\r/\\'\";$`|&<>()[]{}*?!~#%\0\x7f")
        assert text[0].isalnum()


@pytest.mark.parametrize(
    "text", ["a.1\n", "a.01", "a.0", "a.", ".1", "a.-1", "a.1e3", "a.٣", "a." + "9" * 19, "a"]
)
def test_a_reference_has_one_form_only(text: str) -> None:
    assert refuses(lambda violations: violations.reference("reference", text))


@pytest.mark.parametrize(
    ("asked", "given_"), [(0, PAGE_SIZE_DEFAULT), (1, 1), (1_000, 1_000), (10**9, PAGE_SIZE_MAX)]
)
def test_a_page_size_has_a_default_and_a_bound(asked: int, given_: int) -> None:
    assert Violations().page_size("page_size", asked) == given_


@pytest.mark.parametrize("innermost", ["", "1", "{}"])
def test_nesting_is_counted_in_containers(innermost: str) -> None:
    own = 1 if innermost == "{}" else 0
    deepest = "[" * (NESTING_MAX - own) + innermost + "]" * (NESTING_MAX - own)

    assert not refuses(lambda violations: violations.payload("p", deepest))
    assert refuses(lambda violations: violations.payload("p", f"[{deepest}]"))
    wide = "[" + ",".join(["[[1]]"] * 200) + "]"
    assert not refuses(lambda violations: violations.payload("p", wide))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
KEYS = st.text().filter(lambda key: "\0" not in key)


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_python_writes_as_json_is_taken_as_it_is(value: object) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)
        violations = Violations()
        found = violations.payload("p", text)
        violations.raise_if_invalid()
        assert found is not None
        assert found.text == text


@given(st.text(max_size=60))
def test_no_text_breaks_the_rule_for_json(text: str) -> None:
    violations = Violations()
    found = violations.payload("p", text)

    # Whatever is taken can be read by the strict reader too.
    assert (found is None) == bool(blamed(violations))
    if found is not None:
        json.loads(found.text)


@pytest.mark.parametrize("text", ['{"secret": nope}', '["secret" 1]', '{"secret": "\\ud800"}'])
def test_a_violation_quotes_nothing_of_a_payload(text: str) -> None:
    violations = Violations()
    violations.payload("context", text)

    with pytest.raises(InvalidRequestError) as caught:
        violations.raise_if_invalid()
    assert "secret" not in str(caught.value)


def test_every_version_that_may_be_declared_may_be_asked_for() -> None:
    assert not refuses(lambda violations: violations.version("opts.version", VERSION_MAX))
    assert refuses(lambda violations: violations.version("opts.version", VERSION_MAX + 1))
