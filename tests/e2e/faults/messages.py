"""Invalid messages: built from the structure of the protos and then damaged, or random bytes.

Owns: seeded choices of values for every kind of field, and mutations of bytes. Must not: make calls.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

KNOWN_MAX: Final = 500
"""Maximum number of values from the server that are kept, per kind."""

_HOSTILE_TEXTS: Final = (
    "",
    "\0",
    "a\nb",
    "\u202eabc",
    "../../etc/passwd",
    "';--",
    "%s%n{0}",
    "é" * 200,
    "😀" * 64,
    "a" * 128,
    "a" * 129,
    "a" * 70_000,
    "-1",
    "end",
    "timeout",
    "error",
    "None",
    "null",
    "a.b.1",
    "a." + "9" * 18,
    "a." + "9" * 30,
    "AAAAAAAAAAAAAAAAWzEsMl0",
)
_JSON: Final = (
    "{}",
    "",
    "[]",
    "null",
    '{"a": 1, "a": 2}',
    '{"n": 18446744073709551616, "m": -1e308}',
    '{"n": 1e999}',
    '{"n": NaN}',
    '{"\\u0000": 1}',
    '{"s": "\\ud800"}',
    '{"s": "\\ud83d\\ude00 \\u0000"}',
    "[" * 101 + "]" * 101,
    "[" * 99 + "]" * 99,
    "[" * 5_000,
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    '{"text": "' + "x" * 20_000 + '"}',
    "{" + ",".join(f'"k{n}":{n}' for n in range(2_000)) + "}",
    '{"n": ' + "9" * 5_000 + "}",
    "\ufeff{}",
    "{} {}",
    "'single'",
)
_NUMBERS: Final = (0, 1, 2, 3, 5, 50, 250, 1_000, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
_BYTES: Final = (b"\xff" * 10, b"\0", b"\xed\xa0\x80", b"\xc3\x28", b"\x80\x80\x80\x80\x10", b"\x0b" * 40)


class Messages:
    """A source of messages. ``learn`` feeds it what the server answered: ids, references, page tokens."""

    def __init__(self, seed: int, known: dict[str, list[str]]) -> None:
        self._chance = random.Random(seed)
        self._known = {name: deque(values, maxlen=KNOWN_MAX) for name, values in known.items()}

    def learn(self, message: Message) -> None:
        """Remember what later messages may name."""
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                name = "page_token" if field.name == "next_page_token" else field.name
                known = self._known.get(name)
                if value and known is not None and value not in known:
                    known.append(value)
            elif field.type == FieldDescriptor.TYPE_MESSAGE and field.is_repeated and value:
                if not field.message_type.GetOptions().map_entry:
                    self.learn(value[0])
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                self.learn(value)

    def message(self, method: MethodDescriptor) -> bytes:
        """Return a request of an RPC: sound, odd, damaged or noise."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.04:
            return chance.randbytes(chance.choice([0, 1, 2, 10, 100, 5_000]))
        oddity = 0.0 if kind < 0.4 else chance.choice([0.1, 0.3, 1.0])
        body: bytes = self._fill(method.input_type, oddity).SerializeToString()
        return self._mutated(body) if kind > 0.75 else body

    def _fill(self, descriptor: Descriptor, oddity: float) -> Message:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._chance.random() < 0.25:
                continue
            if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
                for _ in range(self._chance.choice([0, 1, 2, 40])):
                    getattr(message, field.name)[self._text(field.name, oddity)] = self._text("", oddity)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                getattr(message, field.name).CopyFrom(self._fill(field.message_type, oddity))
            elif field.is_repeated:
                values = [self._scalar(field, oddity) for _ in range(self._chance.choice([0, 1, 3, 200]))]
                getattr(message, field.name).extend(values)
            else:
                setattr(message, field.name, self._scalar(field, oddity))
        return message

    def _scalar(self, field: FieldDescriptor, oddity: float) -> Any:
        chance = self._chance
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return self._text(field.name, oddity)
            case FieldDescriptor.TYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.TYPE_ENUM:
                known = [value.number for value in field.enum_type.values]
                return chance.choice([*known, 99, -1] if chance.random() < oddity else known)
            case FieldDescriptor.TYPE_INT64:
                return self._number(oddity, -(2**63), 2**63 - 1)
            case FieldDescriptor.TYPE_INT32:
                return self._number(oddity, -(2**31), 2**31 - 1)
            case FieldDescriptor.TYPE_UINT32:
                return self._number(oddity, 0, 2**32 - 1)
            case _:
                raise AssertionError(f"a kind of field that no message had: {field.full_name}")

    def _number(self, oddity: float, least: int, most: int) -> int:
        if self._chance.random() >= oddity:
            return self._chance.choice([0, 1, 2, 100])
        number = self._chance.choice(_NUMBERS) * self._chance.choice([1, 1, -1])
        return min(max(number, least), most)

    def _text(self, name: str, oddity: float) -> str:
        chance = self._chance
        if name == "json":
            return chance.choice(_JSON) if chance.random() < max(oddity, 0.3) else '{"a": [1, {"b": "ä"}]}'
        if chance.random() < oddity:
            return chance.choice(_HOSTILE_TEXTS)
        known = self._known.get(name)
        if name in {"request_id", "page_token"} and chance.random() < 0.7:
            return "" if name == "page_token" else f"r{chance.randrange(10**9)}"
        if not known:
            return f"t{chance.randrange(50)}"
        found = chance.choice(known)
        if chance.random() < oddity and found:
            place = chance.randrange(len(found))
            return found[:place] + chance.choice("aA0.-_ \0é") + found[place + 1 :]
        return found

    def _mutated(self, body: bytes) -> bytes:
        chance = self._chance
        found = bytearray(body)
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(found) + 1)
            match chance.randrange(6):
                case 0:
                    found[place:place] = chance.randbytes(chance.randrange(1, 9))
                case 1 if place < len(found):
                    found[place] = chance.randrange(256)
                case 2 if place < len(found):
                    found[place] ^= 1 << chance.randrange(8)
                case 3:
                    del found[place : place + chance.randrange(1, 9)]
                case 4:
                    found[place:place] = found[: min(chance.randrange(len(found) + 1), 1_000)]
                case _:
                    found[place:place] = chance.choice(_BYTES)
        return bytes(found)
