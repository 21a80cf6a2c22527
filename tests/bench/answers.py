"""From the node's word about a stale commitment to its word about our penalty, against the real service process."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.contract.scripts import funding_output
from domain.transaction import TxOut
from domain.units import Side
from tests.bench.frames import FrameClock
from tests.bench.installation import Installation
from tests.bench.scale import Scale
from tests.support.parties import Pair, make_party, open_pair
from tests.support.service import ServiceProcess
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower, create
from watchtower.node.rpc import BitcoindNode

NAMES = (
    "breach_to_penalty_p50_ms",
    "breach_to_penalty_p99_ms",
    "breach_to_penalty_max_ms",
    "breach_to_penalty_behind_closings_p50_ms",
    "breach_to_penalty_behind_closings_max_ms",
    "breach_with_child_to_penalty_p50_ms",
    "breach_with_child_to_penalty_max_ms",
)
COIN_SAT = 3_000_000
COPY_SAT = 20_000
CHILD_FEE = 5_000
OUTPUTS_PER_TRANSACTION = 2_000
STALE = 0


class Samples(NamedTuple):
    """Milliseconds per breach: while earlier ones are unconfirmed; behind all of them confirmed; with a paid child."""

    fresh: list[float]
    late: list[float]
    with_child: list[float]


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; needs a real node."""
    return figures(play(scale, directory))


def figures(samples: Samples) -> dict[str, float]:
    """Percentiles of the samples in milliseconds."""
    values = (
        statistics.median(samples.fresh),
        percentile(samples.fresh, 0.99),
        max(samples.fresh),
        statistics.median(samples.late),
        max(samples.late),
        statistics.median(samples.with_child),
        max(samples.with_child),
    )
    return {name: round(value, 2) for name, value in zip(NAMES, values, strict=True)}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of all values (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def play(scale: Scale, directory: Path) -> Samples:
    """Fill a tower, start it as a process, cheat again and again and note the times."""
    with RegtestNode.start(directory / "node") as node:
        tower, pairs = _fill(node, scale, directory / "tower")
        service = ServiceProcess(tower.config_path)
        clock = FrameClock(node.zmq_endpoint)
        try:
            service.wait_watching()
            _settle_down()
            fresh = [breach(node, clock, pair, scale) for pair in pairs[: scale.breaches]]
            node.mine(1)
            _settle_down()
            waiting = iter(pairs[scale.breaches :])
            late = [breach(node, clock, pair, scale) for pair in islice(waiting, scale.late_breaches)]
            with_child = [breach(node, clock, pair, scale, child_fee=CHILD_FEE) for pair in waiting]
        finally:
            clock.close()
            service.close()
    return Samples(fresh, late, with_child)


def breach(node: RegtestNode, clock: FrameClock, pair: Pair, scale: Scale, child_fee: int = 0) -> float:
    """Milliseconds between the two announcements, for one stale commitment of A, alone or with a child that pays."""
    raw, txid = pair.commitment(Side.A, STALE), pair.commitment_txid(Side.A, STALE)
    if child_fee:
        node.submit_package([raw, node.anchor_child(txid, fee=child_fee)])
    else:
        node.send_raw(raw)
    emitted = clock.of_transaction(txid)
    answered = clock.of_spend(make_outpoint(txid, 0))
    time.sleep(scale.pause_seconds)
    return (answered - emitted) * 1000


def _settle_down() -> None:
    """Let the sweep after a block run out: the figure is about a tower that is watching, not one that starts."""
    time.sleep(3.0)


def _fill(node: RegtestNode, scale: Scale, directory: Path) -> tuple[NewTower, list[Pair]]:
    endpoint = node.zmq_endpoint
    chosen = {"rpc_url": node.rpc_url, "rpc_cookie_path": str(node.cookie_path), "rest_url": node.rest_url}
    chosen |= {"zmq_sequence": endpoint, "zmq_rawtx": endpoint, "zmq_hashblock": endpoint}
    listening = {"listen": "127.0.0.1:0"}
    settings = {"node": chosen, "api": listening, "admin": listening}
    tower = create(directory, directory / "config.toml", "regtest", settings)
    pairs = real_pairs(node, scale.breaches + scale.late_breaches + scale.child_breaches)
    copied = _fund_copies(node, pairs[0], scale.watched_channels - len(pairs))
    node.mine(1)
    block = BlockRef(node.height(), node.tip())
    adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    with Installation(tower, adapter, block.height) as installation:
        installation.begin(block)
        streams = [installation.watch(pair, block) for pair in pairs]
        installation.watch_copies(installation.context.channels.load(streams[0]), copied, block)
        installation.project()
    adapter.close()
    return tower, pairs


def real_pairs(node: RegtestNode, count: int) -> list[Pair]:
    """Funded channels in state 1, their funding in the mempool; A's state 0 is revoked."""
    node.fund_many([TxOut(COIN_SAT, node.wallet_spk())] * count)  # a confirmed coin for each of them
    node.mine(1)
    pairs = []
    for number in range(count):
        names = (f"alice{number}", f"bob{number}")
        parties = (make_party(names[0]), make_party(names[1]))
        pair = open_pair(lambda spk, amount: node.fund(spk, amount, broadcast=False), names=names, parties=parties)
        pair.update()
        node.send_raw(pair.funding.raw)
        pairs.append(pair)
    return pairs


def _fund_copies(node: RegtestNode, template: Pair, count: int) -> list[OutPoint]:
    outputs = [TxOut(COPY_SAT, funding_output(template.params).spk)] * count
    outpoints: list[OutPoint] = []
    for start in range(0, count, OUTPUTS_PER_TRANSACTION):
        part = outputs[start : start + OUTPUTS_PER_TRANSACTION]
        funding = node.fund_many(part)
        outpoints += [make_outpoint(funding.txid, vout) for vout in range(len(part))]
    return outpoints
