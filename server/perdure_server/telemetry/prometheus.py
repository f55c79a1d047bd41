"""Metrics: what a name means, and a collector that reads the call_counters when somebody scrapes.

Nothing is counted here: a `Metric` says where its figures are read. Loaded only where metrics are served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from perdure_server.telemetry.counters import Histogram

Labels: TypeAlias = tuple[str, ...]
Figures: TypeAlias = Mapping[Labels, float | Histogram]
"""What a metric reads: a figure for the values of its labels; the empty tuple where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. ``name`` is the public one, ``labels`` the names of its labels.

    ``read`` is called by the thread of whoever scrapes.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    read: Callable[[], Figures]


class Readings(Collector):
    """Reads every metric anew for each scrape."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Family]:
        """Name the metrics without reading them."""
        return [_family(metric, {}) for metric in self._metrics]

    def collect(self) -> Iterator[Family]:
        """Read the metrics."""
        for metric in self._metrics:
            yield _family(metric, metric.read())


def registry_of(metrics: Sequence[Metric]) -> CollectorRegistry:
    """Return what is scraped: the metrics, and those of the process and of Python that the library has.

    It is a registry of its own: what the code of steps registers elsewhere is not the server's to publish.
    """
    registry = CollectorRegistry()
    registry.register(Readings(metrics))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _family(metric: Metric, figures: Figures) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, figure in figures.items():
            assert isinstance(figure, Histogram)
            histogram.add_metric(labels, _buckets(figure), figure.total)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, figure in figures.items():
        assert not isinstance(figure, Histogram)
        family.add_metric(labels, figure)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the buckets as the format has them: each counts what the ones before it do, and the last counts all."""
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts()), strict=True))
