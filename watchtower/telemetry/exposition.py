"""The text that Prometheus scrapes, written quickly: what cannot change in a line is put together once.

The client library escapes every name and label again at each scrape, which is half of its time; the bytes are the same.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from watchtower.ports import WatchtowerError


class NotExposed(WatchtowerError):
    """A registry holds a kind of metric that is not written here; declare it in the catalog as one of its kinds."""

    slug = "metric-not-exposed"


class Exposition:
    """Writes the gauges, counters and histograms of one registry; from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._begins: dict[tuple[str, ...], str] = {}

    def render(self) -> bytes:
        """Text format 0.0.4, UTF-8."""
        lines: list[str] = []
        for family in self._registry.collect():
            if family.type not in ("gauge", "counter", "histogram"):
                raise NotExposed(f"{family.name} is a {family.type}")
            name = family.name + "_total" * (family.type == "counter")
            lines.append(f"# HELP {name} {_escaped(family.documentation)}\n# TYPE {name} {family.type}\n")
            lines += [self._begin(sample) + _number(sample.value) for sample in family.samples]
        return "".join(lines).encode()

    def _begin(self, sample: Sample) -> str:
        key = (sample.name, *sample.labels.values())
        begin = self._begins.get(key)
        if begin is None:
            labels = ",".join(f'{name}="{_quoted(value)}"' for name, value in sorted(sample.labels.items()))
            begin = self._begins[key] = f"{sample.name}{{{labels}}} " if labels else f"{sample.name} "
        return begin


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', r"\"")


def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text + "\n"
