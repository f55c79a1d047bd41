"""Addresses to listen on: their syntax, loopback, and addresses that are in use."""

from __future__ import annotations

import socket

import pytest

from perdure_server.security.addresses import (
    Address,
    CannotListenError,
    check_free,
    is_loopback,
    is_one,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:7420", "127.0.0.1", 7420), ("[::1]:0", "::1", 0), ("localhost:65535", "localhost", 65_535)],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7420",
        ":7420",
        "localhost",
        "localhost:",
        "::1:7420",
        "[::1]",
        "a:65536",
        "a:-1",
        "a:+1",
        "a:7x",
        "a:٧",
        "[a]:1",
    ],
)
def test_an_invalid_address_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(CannotListenError, match="is not a valid HOST:PORT") as caught:
        parse_address(text)

    assert "127.0.0.1:7420" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.0.2.1", False),
    ],
)
def test_loopback_is_recognized(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_host_that_cannot_be_looked_up_is_rejected() -> None:
    with pytest.raises(CannotListenError, match="looked up"):
        is_loopback("nothing.invalid")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Address("127.0.0.1", 1), Address("127.0.0.1", 1), True),
        (Address("127.0.0.1", 1), Address("0.0.0.0", 1), True),
        (Address("127.0.0.1", 1), Address("127.0.0.1", 2), False),
        (Address("127.0.0.1", 0), Address("127.0.0.1", 0), False),
    ],
)
def test_addresses_that_cannot_both_be_listened_on_are_found(
    one: Address, other: Address, expected: bool
) -> None:
    assert is_one(one, other) is expected


def test_an_address_in_use_is_rejected() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = Address(*other.getsockname())

        with pytest.raises(CannotListenError, match="is in use") as caught:
            check_free("--listen", address)

    assert caught.value.message.startswith(f"--listen {address}: ")
    assert "another address with --listen" in caught.value.hint
