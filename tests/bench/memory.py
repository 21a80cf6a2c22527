"""Resident memory of the core per watched channel: read models and folds, not the interpreter or the log's files.

Each size is measured in a process of its own (`python -m tests.bench.memory DIRECTORY`), because memory that was used
once stays with a process.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

from domain.chain import make_outpoint
from domain.contract.scripts import funding_output
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.bench.installation import Installation
from tests.bench.scale import Scale
from tests.bench.updates import BLOCK, HEIGHT
from tests.support.parties import make_party, open_pair
from tests.support.towers import CoinNode
from watchtower.models import LiveModels
from watchtower.new_tower import create
from watchtower.repository import Channels
from watchtower.store.create import open_store
from watchtower.store.rebuild import open_views

NAMES = ("memory_bytes_per_watched_channel", "memory_bytes_per_watched_channel_few", "memory_base_bytes")
ROOT = Path(__file__).parents[2]

Resident = dict[str, int]
"""Resident bytes `before` and `after` the core read a tower's files."""


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """Bytes per channel between the two sizes; in the smaller one with its folds; the process with one channel."""
    sizes = (1, scale.watched_few, scale.watched_many)
    return figures(scale, *(_resident(number, directory / str(number)) for number in sizes))


def figures(scale: Scale, base: Resident, few: Resident, many: Resident) -> dict[str, float]:
    """The quotients of three reports."""
    per_channel = (many["after"] - few["after"]) / (scale.watched_many - scale.watched_few)
    values = (round(per_channel), round((few["after"] - few["before"]) / scale.watched_few), base["after"])
    return dict(zip(NAMES, values, strict=True))


def _resident(channels: int, directory: Path) -> Resident:
    fill(channels, directory)
    command = [sys.executable, "-m", "tests.bench.memory", str(directory)]
    found: Resident = json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)
    return found


def fill(channels: int, directory: Path) -> None:
    """A tower's files with so many confirmed channels."""
    tower = create(directory, directory / "config.toml", "regtest")
    pair = open_pair(names=("alice", "bob"), parties=(make_party("alice"), make_party("bob")))
    node = CoinNode()
    node.add_coin(pair.params.funding_outpoint, pair.params.capacity, funding_output(pair.params).spk)
    with Installation(tower, node, HEIGHT) as installation:  # type: ignore[arg-type]
        template = installation.context.channels.load(installation.watch(pair, BLOCK))
        outpoints = [make_outpoint(number.to_bytes(32, "big"), 0) for number in range(1, channels)]
        installation.watch_copies(template, outpoints, BLOCK)
        installation.project()


def report(directory: Path) -> Resident:
    """Resident bytes of this process before and after the core has read a tower's files and loaded its channels."""
    with open_store(directory / "events.db") as store:
        rows = open_views(directory / "views.db", store)
        gc.collect()
        before = resident_bytes()
        channels = Channels(store)
        models = LiveModels(Projector(store, rows, PROJECTIONS), rows, channels)
        models.catch_up()
        for stream in models.young_funding():
            channels.load(stream)
        gc.collect()
        after = resident_bytes()
        rows.close()
    return {"before": before, "after": after}


def resident_bytes(pid: int | None = None, field: str = "VmRSS") -> int:
    """Bytes that /proc tells of this process or another one (Linux); `VmHWM` is the most since its program began."""
    for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field}: this figure needs Linux")


if __name__ == "__main__":
    print(json.dumps(report(Path(sys.argv[1]))))
