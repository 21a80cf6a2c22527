"""The registry: every metric of the catalog, with every child made at start so that `increase()` sees the first event.

An object, not a global: two towers in one process (tests, demo) do not share counters.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from watchtower.telemetry.catalog import CATALOG, OPEN, Metric
from watchtower.telemetry.exposition import Exposition

PREFIX = "watchtower_"
REQUESTS = "http_requests_total"
METHODS = ("GET", "POST", "other")
NO_ROUTES: Mapping[str, Sequence[str]] = {}


class _Optional(Collector):
    """Gauges that have no series while they have no value."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._rows = {metric.name: metric for metric in metrics}
        self._values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in self._rows}
        self._lock = threading.Lock()

    def set(self, name: str, labels: Sequence[str], value: float | None) -> None:
        with self._lock:
            if value is None:
                self._values[name].pop(tuple(labels), None)
            else:
                self._values[name][tuple(labels)] = value

    def value(self, name: str, labels: Sequence[str]) -> float | None:
        with self._lock:
            return self._values[name].get(tuple(labels))

    def collect(self) -> Iterable[GaugeMetricFamily]:
        with self._lock:
            values = {name: dict(series) for name, series in self._values.items() if series}
        for name, series in values.items():
            row = self._rows[name]
            family = GaugeMetricFamily(PREFIX + name, row.help, labels=[label for label, _values in row.labels])
            for labels, value in series.items():
                family.add_metric(labels, value)
            yield family


class Metrics:
    """Counts, gauges and timings by the names of the catalog (without prefix); safe to call from any thread.

    Label values are given in the catalog's order; a value outside its closed list becomes `other` where the list has
    that, else it is an error of the caller (ValueError). A request with a method that its route does not have counts as
    `unmatched`: so there is a child for each real pair of both, and not for all pairs.
    """

    def __init__(
        self, *, build: Sequence[str], routes: Mapping[str, Sequence[str]] = NO_ROUTES, start: float | None = None
    ) -> None:
        """`build`: version, revision, network, event store. `routes`: methods by template. `start`: Unix time."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._exposition = Exposition(self.registry)
        self._rows = {metric.name: metric for metric in CATALOG}
        self._methods = {**routes, "unmatched": METHODS}
        self._routes = tuple(self._methods)
        self._optional = _Optional(metric for metric in CATALOG if metric.kind == "optional")
        self.registry.register(self._optional)
        ProcessCollector(registry=self.registry)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in CATALOG:
            self._create(metric)
        self._gauges["build_info"].labels(*build).set(1)
        self._start_timestamps(time.time() if start is None else start)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        (counter.labels(*self._checked(name, labels)) if labels else counter).inc(by)

    def set(self, name: str, *labels: str, value: float | None) -> None:
        """Set a gauge; None removes the series of an optional one, that of these labels if it has any."""
        if self._rows[name].kind == "optional":
            self._optional.set(name, self._checked(name, labels), value)
            return
        if value is None:
            raise ValueError(f"{name} always has a value")
        gauge = self._gauges[name]
        (gauge.labels(*self._checked(name, labels)) if labels else gauge).set(value)

    def value(self, name: str, *labels: str) -> float | None:
        """What a counter or gauge stands at; None for an optional one without a series."""
        if self._rows[name].kind == "optional":
            return self._optional.value(name, labels)
        family = self._counters.get(name) or self._gauges[name]
        (sample,) = next(iter((family.labels(*labels) if labels else family).collect())).samples
        return float(sample.value)

    def observe(self, name: str, *labels: str, value: float) -> None:
        """Add a timing or size to a histogram."""
        histogram = self._histograms[name]
        (histogram.labels(*self._checked(name, labels)) if labels else histogram).observe(value)

    def one_of(self, name: str, current: str) -> None:
        """Set the state gauge's child `current` to 1 and all others to 0."""
        for value in self._rows[name].labels[0][1]:
            self.set(name, value, value=float(value == current))

    def render(self) -> bytes:
        """The text exposition for /metrics; takes some milliseconds, so call it in a thread."""
        return self._exposition.render()

    def _create(self, metric: Metric) -> None:
        names = [label for label, _values in metric.labels]
        if metric.kind == "counter":
            self._counters[metric.name] = Counter(PREFIX + metric.name, metric.help, names, registry=self.registry)
        elif metric.kind == "gauge":
            self._gauges[metric.name] = Gauge(PREFIX + metric.name, metric.help, names, registry=self.registry)
        elif metric.kind == "histogram":
            self._histograms[metric.name] = Histogram(
                PREFIX + metric.name, metric.help, names, registry=self.registry, buckets=metric.bounds
            )
        if metric.labels and metric.kind != "optional" and metric.name != "build_info":
            self._create_children(metric)

    def _create_children(self, metric: Metric) -> None:
        values = [self._routes if values is OPEN else values for _label, values in metric.labels]
        family = self._counters.get(metric.name) or self._gauges.get(metric.name) or self._histograms[metric.name]
        for combination in itertools.product(*values):
            if self._is_pair(metric.name, combination):
                family.labels(*combination)

    def _start_timestamps(self, start: float) -> None:
        """A timestamp of 0 would be an age of half a century and page at once."""
        for metric in CATALOG:
            if metric.kind == "gauge" and metric.name.endswith("_timestamp_seconds"):
                for combination in itertools.product(*(values for _label, values in metric.labels)):
                    self.set(metric.name, *combination, value=start)

    def _checked(self, name: str, labels: Sequence[str]) -> list[str]:
        checked = [
            self._label(name, label, self._routes if allowed is OPEN else allowed, value)
            for value, (label, allowed) in zip(labels, self._rows[name].labels, strict=True)
        ]
        return checked if self._is_pair(name, checked) else [checked[0], "unmatched", *checked[2:]]

    def _is_pair(self, name: str, labels: Sequence[str]) -> bool:
        """Whether the route has the method, for the one metric with both."""
        return name != REQUESTS or labels[0] in self._methods[labels[1]]

    def _label(self, name: str, label: str, allowed: Sequence[str], value: str) -> str:
        if value in allowed:
            return value
        fallback = "unmatched" if label == "route" else "other"
        if fallback not in allowed:
            raise ValueError(f"{value!r} is no value of the label {label} of {name}")
        return fallback
