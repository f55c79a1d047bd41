"""Metrics: counters that are read at each scrape, and an endpoint that withstands bad clients."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import urllib.error
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from perdure_server.telemetry.counters import OTHER, CountersByName, Histogram
from perdure_server.telemetry.metrics_server import CACHE_SECONDS_MAX, CONNECTIONS_MAX, MetricsEndpoint
from perdure_server.telemetry.prometheus import Metric, registry_of
from support.prometheus_scrape import Scrape, fetch, read

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


# --- call_counters
# -----------------------------------------------------------------------------------------------------


def test_a_value_is_counted_in_the_first_bucket_that_includes_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.add(value)

    assert histogram.counts() == [2, 1, 1]
    assert histogram.total == 10.0


def test_names_beyond_the_bound_are_counted_together() -> None:
    counters = CountersByName(["good", "bad"], max_names=2)
    for name in ("a", "b", "c", "d", "c"):
        counters.of(name)["good"] += 1

    assert {name: count for name, kind, count in counters.counts() if kind == "good"} == {
        "a": 1,
        "b": 1,
        OTHER: 3,
    }
    assert (counters.sum("good"), counters.sum("bad")) == (5, 0)


# --- the collector -----------------------------------------------------------------------------------------------


class Counted:
    """A counter, a histogram and a gauge. ``broken`` makes reading them fail."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = Histogram((0.1, 1.0))
        self.broken = False

    def level(self) -> float:
        if self.broken:
            raise KeyError("4111-1111")
        return 7

    def metrics(self) -> list[Metric]:
        return [
            Metric(name="t_done_total", kind="counter", help="Done.", read=lambda: {(): self.count}),
            Metric(
                name="t_work_seconds",
                kind="histogram",
                help="Took.",
                labels=("kind",),
                read=lambda: {("any",): self.seconds},
            ),
            Metric(name="t_level", kind="gauge", help="Level.", read=lambda: {(): self.level()}),
        ]


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def always_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure_server.telemetry.metrics_server.CACHE_FACTOR", 0)


@pytest.fixture
def endpoint(counted: Counted, always_anew: None) -> Iterator[MetricsEndpoint]:
    made = MetricsEndpoint(registry_of(counted.metrics()), "127.0.0.1", 0)
    made.start()
    yield made
    made.close()


def address(endpoint: MetricsEndpoint) -> str:
    return f"127.0.0.1:{endpoint.port}"


def scraped(endpoint: MetricsEndpoint) -> Scrape:
    return read(fetch(address(endpoint)))


def test_metrics_are_read_at_each_scrape(counted: Counted, endpoint: MetricsEndpoint) -> None:
    assert scraped(endpoint)("t_done_total") == 0

    counted.count = 2**40
    for value in (0.05, 0.5, 5.0):
        counted.seconds.add(value)
    found = scraped(endpoint)

    assert found("t_done_total") == 2**40
    assert found("t_level") == 7
    buckets = [found("t_work_seconds_bucket", kind="any", le=bound) for bound in ("0.1", "1.0", "+Inf")]
    assert buckets == [1, 2, 3]
    assert found("t_work_seconds_count", kind="any") == 3
    assert found("t_work_seconds_sum", kind="any") == 5.55


def test_metrics_of_the_process_and_the_garbage_collector_are_exported(endpoint: MetricsEndpoint) -> None:
    found = scraped(endpoint)

    assert found("process_resident_memory_bytes") > 1 << 20
    assert found("python_gc_collections_total", generation="0") > 0


def test_a_scraper_may_have_openmetrics(counted: Counted, endpoint: MetricsEndpoint) -> None:
    counted.count = 3
    families = {
        family.name: family
        for family in text_string_to_metric_families(fetch(address(endpoint), Accept=OPENMETRICS))
    }

    assert families["t_done"].samples[0].value == 3
    assert families["t_work_seconds"].type == "histogram"


def test_a_failed_read_of_metrics_is_logged_and_the_next_scrape_works(
    counted: Counted, endpoint: MetricsEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    counted.broken = True
    with (
        caplog.at_level(logging.ERROR, "perdure_server"),
        pytest.raises(urllib.error.HTTPError, match="500") as caught,
    ):
        scraped(endpoint)
    caught.value.close()
    counted.broken = False

    assert [record.getMessage() for record in caplog.records] == ["reading metrics failed"]
    assert scraped(endpoint)("t_level") == 7


# --- the endpoint ------------------------------------------------------------------------------------------------


def connected(endpoint: MetricsEndpoint, sends: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", endpoint.port), timeout=60)
    client.sendall(sends)
    return client


def send_for_ever(client: socket.socket, what: bytes) -> None:
    while True:
        client.sendall(what)


def rest_of(client: socket.socket) -> bytes:
    """Return all data until the server closes the connection."""
    found = b""
    try:
        while part := client.recv(65_536):
            found += part
    except ConnectionResetError:
        pass  # what we sent was not all read
    return found


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\xff\xfe: \x00\r\n: \r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    ],
    ids=["tls", "http2", "empty line", "no path", "many headers", "long path", "no headers", "post"],
)
def test_invalid_requests_get_an_error_or_are_closed(
    endpoint: MetricsEndpoint, garbage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with connected(endpoint) as client:
        with contextlib.suppress(OSError):  # it may be cut before all of it is sent
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
        rest_of(client)

    assert scraped(endpoint)("t_level") == 7
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain; version=none",
        "application/openmetrics-text; version=99.1",
        "application/openmetrics-text; version=x; escaping=y",
        ";;,,=",
    ],
)
def test_every_requested_format_gets_a_response(endpoint: MetricsEndpoint, accept: str) -> None:
    assert "t_level 7.0" in fetch(address(endpoint), Accept=accept)


@pytest.mark.parametrize("formats", [("",), ("", OPENMETRICS)], ids=["one format", "two formats"])
def test_many_scrapers_share_one_read_of_the_metrics(
    formats: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure_server.telemetry.metrics_server.CACHE_FACTOR", 1_000_000)
    monkeypatch.setattr("perdure_server.telemetry.metrics_server.CACHE_SECONDS_MAX", 60)
    under_way, all_there = threading.Event(), threading.Event()
    readings = 0

    def slow() -> dict[tuple[str, ...], float]:
        nonlocal readings
        readings += 1
        under_way.set()
        all_there.wait(20)
        return {(): readings}

    registry = registry_of([Metric(name="t_readings", kind="gauge", help="Readings.", read=slow)])
    endpoint = MetricsEndpoint(registry, "127.0.0.1", 0)
    endpoint.start()
    request = "GET /metrics HTTP/1.1\r\nAccept: {}\r\n\r\n"
    try:
        crowd = [connected(endpoint, request.format(formats[0]).encode())]
        assert under_way.wait(20)
        for number in range(1, CONNECTIONS_MAX):
            accept = formats[number % len(formats)]
            crowd.append(connected(endpoint, request.format(accept).encode()))
        all_there.set()
        answers = [rest_of(client) for client in crowd]
    finally:
        endpoint.close()

    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(set(answers)) == readings == len(formats)
    for client in crowd:
        client.close()


class Slow:
    """A clock, and a metric whose value is the time of its read, which takes a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def metric(self) -> Metric:
        return Metric(name="t_read_at", kind="gauge", help="When.", read=self._read)

    def _read(self) -> dict[tuple[str, ...], float]:
        self.now += self.seconds
        return {(): self.now}


@pytest.mark.parametrize(("takes", "kept"), [(0.02, 0.18), (10.0, CACHE_SECONDS_MAX)])
def test_a_response_is_cached_for_nine_times_as_long_as_it_took(
    takes: float, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(takes)
    monkeypatch.setattr("perdure_server.telemetry.metrics_server.time", slow)
    endpoint = MetricsEndpoint(registry_of([slow.metric()]), "127.0.0.1", 0)
    endpoint.start()
    try:
        first = scraped(endpoint)("t_read_at")
        slow.now += kept - 0.001
        assert scraped(endpoint)("t_read_at") == first

        slow.now += 0.002
        assert scraped(endpoint)("t_read_at") == slow.now
    finally:
        endpoint.close()


def test_the_oldest_silent_connection_is_closed_if_all_are_taken(endpoint: MetricsEndpoint) -> None:
    silent = [connected(endpoint, b"GET /metrics HT") for _ in range(CONNECTIONS_MAX)]

    assert scraped(endpoint)("t_level") == 7

    assert rest_of(silent[0]) == b""
    for client in silent:
        client.close()


def test_many_silent_clients_do_not_block_a_scraper(endpoint: MetricsEndpoint) -> None:
    threads = threading.active_count()
    crowd = [connected(endpoint, b"G") for _ in range(2 * CONNECTIONS_MAX)]

    assert scraped(endpoint)("t_level") == 7
    assert threading.active_count() == threads
    for client in crowd:
        client.close()


def test_a_client_that_sends_byte_by_byte_is_closed_in_time(counted: Counted) -> None:
    endpoint = MetricsEndpoint(registry_of(counted.metrics()), "127.0.0.1", 0, connection_seconds=0.1)
    endpoint.start()
    try:
        with connected(endpoint) as client, pytest.raises(OSError, match=r"Broken pipe|reset"):
            send_for_ever(client, b"G")
    finally:
        endpoint.close()


def test_a_closed_endpoint_closes_connections_and_frees_its_port(counted: Counted) -> None:
    endpoint = MetricsEndpoint(registry_of(counted.metrics()), "127.0.0.1", 0)
    endpoint.start()
    with connected(endpoint, b"GET /metrics HT") as client:
        fetch(address(endpoint))  # by now the silent one has its place
        endpoint.close()

        assert rest_of(client) == b""
    again = MetricsEndpoint(registry_of(counted.metrics()), "127.0.0.1", endpoint.port)
    again.close()


def test_two_endpoints_do_not_share_a_port(endpoint: MetricsEndpoint, counted: Counted) -> None:
    with pytest.raises(OSError, match="in use"):
        MetricsEndpoint(registry_of(counted.metrics()), "127.0.0.1", endpoint.port)


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_a_host_can_be_a_name_or_an_address_of_either_kind(counted: Counted, host: str) -> None:
    try:
        endpoint = MetricsEndpoint(registry_of(counted.metrics()), host, 0)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    endpoint.start()
    try:
        assert "t_level 7.0" in fetch(
            f"[{host}]:{endpoint.port}" if ":" in host else f"{host}:{endpoint.port}"
        )
    finally:
        endpoint.close()
