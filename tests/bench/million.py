"""A tower with a million channels against a real node: its start, its memory, its answer to a breach.

All funding outputs exist on the node, 2,000 to a block. Every channel has its two secrets in the keystore, as real ones
have. The service is a process of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.claiming import htlc_key_name
from domain.contract.hashes import tagged_hash
from domain.contract.scripts import funding_output
from domain.events import Envelope
from domain.transaction import TxOut
from projections.channels import is_channel
from tests.bench.answers import breach, percentile, real_pairs
from tests.bench.bulk_log import append_rows
from tests.bench.frames import FrameClock
from tests.bench.installation import Installation
from tests.bench.memory import resident_bytes
from tests.bench.restart import COPY_SAT, LONGEST, Restart, restart
from tests.bench.scale import Scale
from tests.bench.scale_log import Copy, Opener, Template, copies
from tests.support.parties import Pair
from tests.support.service import ServiceProcess, settings_for
from watchtower.devnode.regtest import RegtestNode
from watchtower.keystore import FileKeystore, read_passphrase
from watchtower.new_tower import NewTower, create
from watchtower.node.rpc import BitcoindNode
from watchtower.store.create import open_reader, open_store
from watchtower.store.rebuild import rebuild

NAMES = (
    "start_1m_channels_seconds",
    "start_1m_channels_cpu_seconds",
    "memory_bytes_per_channel",
    "breach_to_penalty_1m_p50_ms",
    "breach_to_penalty_1m_p99_ms",
    "breach_to_penalty_1m_max_ms",
)
DEEP = 110
"""Blocks on top of the channels: they are older than any reorg, as most channels of a tower are."""

ROUND = 900.0
"""Seconds to wait for the first comparison of all funding outputs with the node, which goes on behind the start."""


class Million(NamedTuple):
    """Starts, resident bytes with the real channels only and with all, milliseconds per breach, number of copies."""

    starts: list[Restart]
    small: int
    large: int
    breaches: list[float]
    channels: int


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; needs a real node."""
    return figures(play(scale, directory))


def figures(found: Million) -> dict[str, float]:
    """Medians of the starts, bytes per channel between the two sizes, percentiles of the breaches."""
    seconds, cpu = (statistics.median(values) for values in zip(*found.starts, strict=True))
    values = (
        round(seconds, 2),
        round(cpu, 2),
        round((found.large - found.small) / found.channels),
        round(statistics.median(found.breaches), 2),
        round(percentile(found.breaches, 0.99), 2),
        round(max(found.breaches), 2),
    )
    return dict(zip(NAMES, values, strict=True))


def play(scale: Scale, directory: Path) -> Million:
    """A tower with the real channels, then with all others too; starts, and one breach after the other."""
    with RegtestNode.start(directory / "node") as node:
        tower, pairs = fill(node, directory / "tower", scale.breaches)
        small = _resident(tower)
        outpoints = fund_copies(node, pairs[0], scale.million_channels, scale.million_blocks)
        add_copies(tower, BlockRef(node.height(), node.tip()), outpoints)
        node.mine(DEEP)
        restart(tower)  # reads the blocks
        starts = [restart(tower) for _ in range(scale.restarts)]
        service = ServiceProcess(tower.config_path)
        clock = FrameClock(node.zmq_endpoint)
        try:
            service.wait_for("phase_changed", seconds=LONGEST, phase="watching")
            _wait_for_round(service)
            large = resident_bytes(service.process.pid)
            breaches = [breach(node, clock, pair, scale) for pair in pairs]
        finally:
            clock.close()
            service.close()
    return Million(starts, small, large, breaches, scale.million_channels)


def fill(node: RegtestNode, directory: Path, count: int) -> tuple[NewTower, list[Pair]]:
    """A stopped tower with so many real channels, an update each."""
    tower = create(directory, directory / "config.toml", "regtest", settings_for(node))
    pairs = real_pairs(node, count)
    node.mine(1)
    block = BlockRef(node.height(), node.tip())
    adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    with Installation(tower, adapter, block.height) as installation:
        installation.begin(block)
        for pair in pairs:
            installation.watch(pair, block)
        installation.project()
    adapter.close()
    return tower, pairs


def fund_copies(node: RegtestNode, template: Pair, count: int, blocks: int) -> list[OutPoint]:
    """Confirmed outputs with the template's funding script, spread over so many blocks."""
    output = TxOut(COPY_SAT, funding_output(template.params).spk)
    outpoints: list[OutPoint] = []
    for number in range(blocks):
        size = count * (number + 1) // blocks - count * number // blocks
        funding = node.fund_many([output] * size)
        outpoints += [make_outpoint(funding.txid, vout) for vout in range(size)]
        node.mine(1)
    return outpoints


def add_copies(tower: NewTower, block: BlockRef, outpoints: Sequence[OutPoint]) -> None:
    """One channel per outpoint: rows of the log, secrets, views. The log says that `block` holds them all."""
    log, views = tower.data_dir / "events.db", tower.data_dir / "views.db"
    with open_store(log) as store:
        first = next(each.envelope.stream for each in store.read_log(0, 1_000) if is_channel(each.envelope))
        opening = store.read_stream(first, limit=4)
        stream_key = store.meta.stream_key
    template = _template(opening)
    made = list(copies(template, stream_key, iter(outpoints), own_keys=False))
    opener = Opener(template, block)
    append_rows(log, (row for copy in made for row in (*opener.opening(copy), opener.confirmation(copy))), 1_000)
    _keep_secrets(tower, made)
    with open_reader(log) as reader:
        rebuild(views, reader)


def _template(opening: Sequence[Envelope]) -> Template:
    payloads = [event.payload for event in opening]
    return Template(payloads[:3], payloads[3])


def _keep_secrets(tower: NewTower, made: Sequence[Copy]) -> None:
    """The two secrets of each channel, all in one write: one by one each would wait for the disk."""
    keystore = FileKeystore.open(tower.data_dir / "keystore", read_passphrase(tower.passphrase_path))
    names = [tagged_hash("SCT1/proposal", copy.blank) for copy in made]
    entries = [(each, each) for name in names for each in (name, htlc_key_name(name))]
    known = keystore._opened_all(lambda _: True)
    keystore._rewrite(keystore._header, keystore._cipher, known + entries)
    keystore.close()


def _resident(tower: NewTower) -> int:
    service = ServiceProcess(tower.config_path)
    try:
        service.wait_for("phase_changed", seconds=LONGEST, phase="watching")
        time.sleep(3.0)  # the sweep after a start runs out
        return resident_bytes(service.process.pid)
    finally:
        service.terminate()
        service.close()


def _wait_for_round(service: ServiceProcess) -> None:
    """Until the node was asked for every funding output once: each pass does a slice of it."""
    end = time.monotonic() + ROUND
    while time.monotonic() < end:
        text = service.get("admin", "/metrics")[1].decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if "audit_runs_total" in line and line[0] != "#")
        if any(float(value) >= 1 for _, _, value in islice(lines, 1)):
            return
        time.sleep(1.0)
    raise TimeoutError(f"the first comparison with the node took more than {ROUND:g} s")
