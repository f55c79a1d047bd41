"""Payloads: JSON texts are kept byte for byte, whatever is in them."""

from __future__ import annotations

import pytest

from perdure_server.store.protocol import Store
from support.factories import a_change, a_state

TRICKY = {
    "64-bit integers": '{"max":9223372036854775807,"min":-9223372036854775808,"more":18446744073709551616}',
    "numbers that a float would change": '{"a":1.0,"b":1e400,"c":0.1000000000000000055,"d":-0,"e":1E+2}',
    "spaces and order": '{ "b" : 1,\n\t"a" :2 , "b":3 }',
    "escapes": r'{"nul":"\u0000","half":"\ud83d","pair":"\ud83d\ude00","slash":"\/","u":"\u00e9 \u2028"}',
    "control characters by escape": r'"\b\f\n\r\t\u001f\u007f"',
    "quotes and backslashes": r'{"\"":"\\\"\\\\"}',
    "letters of every width": '{"k":"é ß 漢字 😀 \u202e\u2066 \ufeff \uffff \U0010ffff \x7f"}',
    "combining, not normalised": '"e\u0301 \u00e9 \ufb01"',
    "line separators": '"\u2028\u2029\u0085"',
    "what looks like SQL": '{"a":"\'; DROP TABLE payloads; --","b":":rows ?1 $x @y"}',
    "what looks like JSON": r'"{\"a\":[1,null]}"',
    "a bare null": "null",
    "a bare string": '""',
    "deep": "[" * 500 + "]" * 500,
    "one mebibyte": '"' + "é" * ((1 << 19) - 1) + '"',
}


@pytest.mark.parametrize("name", TRICKY)
async def test_a_body_comes_back_byte_for_byte(store: Store, name: str) -> None:
    text = TRICKY[name]
    state = a_state()
    neighbour = a_state()
    await store.commit(
        [a_change(neighbour, payloads={1: '"neighbour"'}), a_change(state, payloads={1: text, 2: "{}"})]
    )
    assert (await store.payloads(state.instance_id, [1]))[1].encode() == text.encode()
    found = await store.get_instance(state.instance_id)
    assert found is not None
    assert found.payloads[1].encode() == text.encode()


async def test_only_the_bodies_that_are_asked_for_come(store: Store) -> None:
    state, other = a_state(), a_state()
    await store.commit(
        [a_change(state, payloads={1: "1", 4: "4", 6: "6"}), a_change(other, payloads={1: '"other"'})]
    )
    assert await store.payloads(state.instance_id, [6, 1, 5]) == {1: "1", 6: "6"}
    assert await store.payloads(state.instance_id, []) == {}
