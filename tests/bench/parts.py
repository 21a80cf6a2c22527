"""The parts of the benchmark: which figures each of them yields, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tests.bench import (
    answers,
    api,
    audit,
    audit_rules,
    catch_up,
    durable,
    exchanges,
    memory,
    metrics_render,
    million,
    notifications,
    reorg,
    replaying,
    restart,
    scanning,
    status_page,
    storm,
    updates,
)
from tests.bench.scale import Scale


class Part(msgspec.Struct, frozen=True):
    """`measure` gets an empty directory and yields exactly the figures `names`."""

    name: str
    names: tuple[str, ...]
    measure: Callable[[Scale, Path], dict[str, float]]


PARTS = (
    Part("scan", scanning.NAMES, scanning.measure),
    Part("breach", answers.NAMES, answers.measure),
    Part("storm", storm.NAMES, storm.measure),
    Part("reorg", reorg.NAMES, reorg.measure),
    Part("catch_up", catch_up.NAMES, catch_up.measure),
    Part("restart", restart.NAMES, restart.measure),
    Part("memory", memory.NAMES, memory.measure),
    Part("replay", replaying.REPLAY_NAMES, replaying.measure_replay),
    Part("rebuild", replaying.REBUILD_NAMES, replaying.measure_rebuild),
    Part("cold", replaying.COLD_NAMES, replaying.measure_cold),
    Part("million", million.NAMES, million.measure),
    Part("audit", audit.NAMES, audit.measure),
    Part("audit_rules", audit_rules.NAMES, audit_rules.measure),
    Part("updates", updates.NAMES, updates.measure),
    Part("durable", durable.NAMES, durable.measure),
    Part("exchange", exchanges.NAMES, exchanges.measure),
    Part("api", api.NAMES, api.measure),
    Part("status_page", status_page.NAMES, status_page.measure),
    Part("metrics_render", metrics_render.NAMES, metrics_render.measure),
    Part("notifications", notifications.NAMES, notifications.measure),
)

GOALS: Mapping[str, tuple[str, float]] = {
    "scan_block_cpu_ms": ("at most", 10.0),
    "breach_to_penalty_p99_ms": ("at most", 100.0),
    "storm_1000_seconds": ("at most", 30.0),
    "storm_1000_ratio_to_bare_node": ("at least", 0.5),
    "restart_100k_seconds": ("at most", 5.0),
    "restart_100k_behind_100_blocks_seconds": ("at most", 6.0),
    "durable_updates_per_s_sqlite": ("at least", 5_000),
    "durable_updates_p99_ms_sqlite": ("at most", 50.0),
    "durable_updates_per_s_postgres": ("at least", 3_000),
    "bytes_per_update": ("at most", 320),
    "replay_events_per_s": ("at least", 150_000),
    "rebuild_1m_channels_seconds": ("at most", 30.0),
    "rebuild_1m_channels_mb": ("at most", 1_000),
    "cold_channel_p99_ms": ("at most", 5.0),
    "audit_events_per_s": ("at least", 200_000),
    "audit_signatures_per_s": ("at least", 25_000),
    "start_1m_channels_seconds": ("at most", 15.0),
    "memory_bytes_per_channel": ("at most", 700),
    "breach_to_penalty_1m_p99_ms": ("at most", 50.0),
    "status_page_fresh_sums_ms": ("at most", 100.0),
    "status_page_search_ms": ("at most", 100.0),
    "metrics_render_ms": ("at most", 20.0),
    "notification_max_ms": ("at most", 1_000.0),
}
"""What the project promises; shown beside the figure. Nothing fails here: machines differ."""


def chosen(only: str | None) -> tuple[Part, ...]:
    """All parts, or the one with this name or figure; raises `ValueError` with the names that there are."""
    if only is None:
        return PARTS
    found = tuple(part for part in PARTS if only == part.name or only in part.names)
    if not found:
        known = ", ".join(name for part in PARTS for name in (part.name, *part.names))
        raise ValueError(f"there is no figure {only!r}; choose one of {known}")
    return found


def run(parts: tuple[Part, ...], scale: Scale, directory: Path) -> dict[str, float]:
    """The figures of all parts, in order; raises `RuntimeError` if a part yields others than it named."""
    figures: dict[str, float] = {}
    for part in parts:
        place = directory / part.name
        place.mkdir()
        found = part.measure(scale, place)
        if tuple(found) != part.names:
            raise RuntimeError(f"{part.name} yielded {sorted(found)}, not {sorted(part.names)}")
        figures |= found
    return figures


def table(figures: Mapping[str, float]) -> str:
    """One line per figure, with its goal where there is one."""
    lines = []
    for name, value in figures.items():
        bound = GOALS.get(name)
        goal = f"   (goal: {bound[0]} {bound[1]:g})" if bound else ""
        lines.append(f"{name:<48}{value:>16,.2f}{goal}".rstrip())
    return "\n".join(lines)
