"""Node and ZMQ, as the tower last saw them."""

from __future__ import annotations

import itertools

import msgspec
from markupsafe import Markup

from watchtower.store.channel_list import BlockMark, last_blocks
from watchtower.telemetry.catalog import CANARY_STAGES
from watchtower.web import words
from watchtower.web.drawing import sparkline
from watchtower.web.sources import Sources

SPARK_BLOCKS = 48


class Topic(msgspec.Struct, frozen=True):
    """One ZMQ topic; `heard` is when its last message came (Unix seconds), None: none since the start."""

    name: str
    connected: bool
    heard: float | None
    missed: int


class NodeView(msgspec.Struct, frozen=True):
    """Numbers are None while the node has not told them. `canary` is when detection was last proved to work."""

    up: bool
    blocks: int | None
    headers: int | None
    height: int
    lag: int | None
    downloading: bool
    pruned: int
    peers: tuple[int, int] | None
    tip_time: float | None
    canary: float | None
    canary_failures: int
    topics: tuple[Topic, ...]
    gaps: Markup
    last_block: float | None


def node_view(sources: Sources) -> NodeView:
    """Read gauges and the newest blocks; asks the node nothing."""
    value = sources.metrics.value
    blocks = last_blocks(sources.rows, SPARK_BLOCKS + 1)
    inbound, outbound = value("node_peers", "inbound"), value("node_peers", "outbound")
    return NodeView(
        up=value("node_up") == 1,
        blocks=_whole(value("node_blocks")),
        headers=_whole(value("node_headers")),
        height=sources.tip(),
        lag=sources.lag(),
        downloading=value("node_initial_block_download") == 1,
        pruned=_whole(value("node_pruned_height")) or 0,
        peers=None if inbound is None or outbound is None else (int(inbound), int(outbound)),
        tip_time=value("node_tip_timestamp_seconds"),
        canary=_since(value("canary_last_success_timestamp_seconds"), sources.facts.started),
        canary_failures=_failures(sources),
        topics=tuple(_topic(sources, name) for name in sources.facts.topics),
        gaps=_gaps(blocks),
        last_block=blocks[-1].recorded_at / 1e6 if blocks else None,
    )


def _topic(sources: Sources, name: str) -> Topic:
    value = sources.metrics.value
    return Topic(
        name=name,
        connected=value("zmq_connected", name) == 1,
        heard=_since(value("zmq_last_message_timestamp_seconds", name), sources.facts.started),
        missed=_whole(value("zmq_missed_messages_total", name)) or 0,
    )


def _failures(sources: Sources) -> int:
    return sum(int(sources.metrics.value("canary_failures_total", stage) or 0) for stage in CANARY_STAGES)


def _gaps(blocks: list[BlockMark]) -> Markup:
    """Minutes from block to block, as they reached the tower."""
    gaps = [max(0.0, (b.recorded_at - a.recorded_at) / 6e7) for a, b in itertools.pairwise(blocks)]
    if not gaps:
        return Markup("")
    longest = words.duration(max(gaps) * 60)
    return sparkline(gaps, f"Time between the last {len(gaps)} blocks; the longest was {longest}.")


def _since(value: float | None, started: float) -> float | None:
    """A time stamp that was set after the start; before, it stands at the start."""
    return value if value is not None and value > started else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
