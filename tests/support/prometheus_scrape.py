"""Parser for Prometheus metrics: types, labels and values by name. It does not check the values."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SCRAPE_SECONDS_MAX: Final = 90.0

_SAMPLE: Final = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<figure>\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_PARTS: Final = ("_bucket", "_sum", "_count")


@dataclass(frozen=True)
class Scrape:
    """One answer of a metrics endpoint."""

    text: str
    types: dict[str, str] = field(default_factory=dict)
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    def __call__(self, name: str, **labels: str) -> float:
        """Return a value, or 0 if the scrape does not have it."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def labels(self) -> dict[str, set[str]]:
        """Return the names of the labels of each metric that has a sample."""
        found: dict[str, set[str]] = {}
        for name, labels in self.samples:
            for part in _PARTS:
                if self.types.get(name.removesuffix(part)) == "histogram":
                    name = name.removesuffix(part)  # noqa: PLW2901 - a histogram's samples are its parts
            found.setdefault(name, set()).update(label for label, _ in labels if label != "le")
        return found

    def values(self) -> Iterator[str]:
        """Yield each value of each label."""
        for _, labels in self.samples:
            yield from (value for _, value in labels)


def read(text: str) -> Scrape:
    """Read Prometheus' text format."""
    scrape = Scrape(text)
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            scrape.types[name] = kind
        elif not line.startswith("#"):
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            labels = frozenset(_LABEL.findall(found["labels"] or ""))
            scrape.samples[found["name"], labels] = float(found["figure"])
    return scrape


def fetch(address: str, **headers: str) -> str:
    """GET /metrics. Raises ``HTTPError`` if the status is not 200."""
    request = urllib.request.Request(f"http://{address}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=SCRAPE_SECONDS_MAX) as answer:
        return str(answer.read().decode())


async def scrape(address: str) -> Scrape:
    """Scrape an endpoint in a thread."""
    return read(await asyncio.to_thread(fetch, address))
