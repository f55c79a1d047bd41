"""Prometheus metrics: their definitions, and a collector that reads the counters at each scrape.

Must not: count. Imported only if metrics are enabled.
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
"""The values of a metric by label values, an empty tuple if it has no labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: its public name, type, help text and label names.

    ``read`` returns its values. It is called in the metrics thread.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    read: Callable[[], Figures]


class MetricsCollector(Collector):
    """Reads every metric at each scrape."""

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
    """Return a registry of these metrics, and of the library's metrics of the process and of Python.

    It is separate from the library's default registry, in which the code of steps can register metrics.
    """
    registry = CollectorRegistry()
    registry.register(MetricsCollector(metrics))
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
    """Return cumulative buckets, as the format requires."""
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts()), strict=True))
