"""CPU time of /metrics with every series that there can be, and of the canary over a full block."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

from structlog.testing import capture_logs

from domain.chain import BlockHash, BlockRef
from domain.events import BroadcastOutcome
from projections.watch_index import Role
from projections.watch_set import WatchSet
from tests.bench.scale import Scale
from tests.bench.scanning import made_up, timed
from watchtower.canary import Canary
from watchtower.http.app import METHODS
from watchtower.ports import Answer
from watchtower.telemetry.catalog import CATALOG
from watchtower.telemetry.metrics import Metrics

NAMES = ("metrics_render_ms", "metrics_render_samples", "canary_full_block_ms")
RUNS = 20


def worst_case(version: str = "0.1.0") -> Metrics:
    """A registry with the routes of the service, in which every optional gauge has all of its series."""
    metrics = Metrics(build=(version, "0" * 40, "mainnet", "sqlite"), routes=METHODS)
    for row in CATALOG:
        if row.kind == "optional":
            for combination in itertools.product(*(values for _label, values in row.labels)):
                metrics.set(row.name, *combination, value=1_700_000_000.5)
    return metrics


def samples(exposition: bytes) -> int:
    """Lines that are no comment."""
    return sum(not line.startswith(b"#") for line in exposition.splitlines())


def measure(scale: Scale, _directory: Path) -> dict[str, float]:
    """All figures of this part: medians in milliseconds, and a count."""
    metrics = worst_case()
    renders = timed(metrics.render, RUNS)
    with capture_logs():
        songs = timed(_canary(scale, metrics).turn, scale.parser_runs)
    values = (round(statistics.median(renders), 1), samples(metrics.render()), round(statistics.median(songs), 1))
    return dict(zip(NAMES, values, strict=True))


class _Node:
    """Hands over a full block at once: only what the tower computes is measured."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def block(self, _block_hash: bytes) -> bytes:
        return self._raw

    def test_accept(self, raw: bytes) -> Answer:
        return Answer(BroadcastOutcome.MISSING_INPUTS, -25, f"missing-inputs: {len(raw)} bytes")


class _Index:
    """An index with some outpoints."""

    def __init__(self, watch: WatchSet) -> None:
        self.watched = watch.outpoints
        self.marked = watch.marked


def _canary(scale: Scale, metrics: Metrics) -> Canary:
    watch = WatchSet([(bytes([number]) * 36, f"c{number:022d}", Role.FUNDING) for number in range(100)])
    canary = Canary(node=_Node(made_up(scale)), models=_Index(watch), rng=bytes, metrics=metrics)
    canary.tip(BlockRef(1, BlockHash(bytes(32))))
    return canary
