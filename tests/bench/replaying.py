"""The read side at scale: events per second into `ChannelInfo`, a full rebuild, and a channel with a long stream.

A rebuild runs in a process of its own (`python -m tests.bench.replaying DIRECTORY`), because memory that was used once
stays with a process.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from domain.channel_fold import evolve, fold
from projections import channel_info
from projections.parts import ChannelsPart
from tests.bench import stock
from tests.bench.answers import percentile
from tests.bench.bulk_log import write_rows
from tests.bench.memory import resident_bytes
from tests.bench.scale import Scale
from tests.bench.scale_log import channel_log, long_channel
from watchtower.repository import READ_FROM_SNAPSHOT, Channels
from watchtower.store.assemble import jobs
from watchtower.store.create import open_reader
from watchtower.store.part import read_all
from watchtower.store.rebuild import rebuild
from watchtower.store.snapshots import ChannelSnapshots
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.views import SqliteRows

REPLAY_NAMES = ("replay_events_per_s", "replay_ratio_to_stock")
REBUILD_NAMES = (
    "rebuild_1m_channels_seconds",
    "rebuild_1m_channels_cpu_seconds",
    "rebuild_1m_channels_mb",
    "rebuild_ratio_to_stock_projection",
)
COLD_NAMES = ("cold_channel_ms", "cold_channel_p99_ms", "cold_channel_ratio_to_full_fold")
ROOT = Path(__file__).parents[2]


def measure_replay(scale: Scale, directory: Path) -> dict[str, float]:
    """Events per CPU second of one core from the file into rows of `ChannelInfo`, and the library's stock replay."""
    channels, events = scale.replay_channels, scale.replay_events
    log = write_rows(directory, channel_log(channels, events), per_commit=100)
    tower = stock.filled(directory / "stock.db", scale.stock_channels)
    rates = [replay_rate(log) for _ in range(scale.replay_runs)]
    slow = stock.replay_rate(tower)
    tower.close()
    return dict(zip(REPLAY_NAMES, (round(max(rates)), round(max(rates) / slow, 1)), strict=True))


def replay_rate(log: Path) -> float:
    """CPU only: the machine's other work does not count. Everything is in it: reading, decoding, folding, the rows."""
    gc.collect()
    gc.disable()
    with SqliteSource(log) as source:
        last = source.last_id()
    begun, part = time.process_time(), ChannelsPart()
    for events in read_all(log, last):
        part.fold(events)
    made = sum(len(rows) for table, rows in part.rows() if table is channel_info.TABLE)
    took = time.process_time() - begun
    gc.enable()
    if not made:
        raise RuntimeError("a replay has made no row")
    return last / took


def measure_rebuild(scale: Scale, directory: Path) -> dict[str, float]:
    """A whole rebuild of `scale.rebuild_channels` from `scale.rebuild_events`, and the library's stock projection."""
    write_rows(directory, channel_log(scale.rebuild_channels, scale.rebuild_events), per_commit=100)
    command = [sys.executable, "-m", "tests.bench.replaying", str(directory)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)
    tower = stock.filled(directory / "stock.db", scale.stock_channels)
    slow = stock.projection_rate(tower, directory / "stock-views.db", min(1_000, scale.stock_channels * stock.UPDATES))
    tower.close()
    return rebuild_figures(scale, found, slow)


def rebuild_figures(scale: Scale, found: dict[str, float], slow: float) -> dict[str, float]:
    """From a report, and the rate of the stock projection."""
    ratio = scale.rebuild_events / found["cpu"] / slow
    values = (round(found["seconds"], 2), round(found["cpu"], 2), round(found["mb"]), round(ratio, 1))
    return dict(zip(REBUILD_NAMES, values, strict=True))


def report(directory: Path) -> dict[str, float]:
    """Rebuild the views of a log: seconds, CPU seconds of all processes, and the sum of their largest memory in MB."""
    begun = time.monotonic()
    with open_reader(directory / "log.db") as log:
        rebuild(directory / "views.db", log)
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in (own, others))
    # Of the others the system tells the largest only; all of them are taken to be as large.
    processes = jobs() if others.ru_maxrss else 0
    # The own one is not asked of getrusage: that begins with the memory of the process that started this one.
    mb = resident_bytes(field="VmHWM") / 1e6 + processes * others.ru_maxrss * 1024 / 1e6
    return {"seconds": time.monotonic() - begun, "cpu": cpu, "mb": mb}


def measure_cold(scale: Scale, directory: Path) -> dict[str, float]:
    """Milliseconds until a channel with `scale.long_updates` is there that nobody has asked for yet."""
    stream, rows = long_channel(scale.long_updates)
    with open_reader(write_rows(directory, rows, per_commit=100)) as log:
        rebuild(directory / "views.db", log)
        views = SqliteRows(directory / "views.db")
        snapshots, last = ChannelSnapshots(views), log.version(stream)
        full = timed(lambda: Channels(log).find(stream))  # type: ignore[arg-type]
        took = []
        kept = fold(None, log.read_stream(stream, limit=last - READ_FROM_SNAPSHOT))
        for event in log.read_stream(stream, after=last - READ_FROM_SNAPSHOT):
            kept = evolve(kept, event)  # a snapshot is at most so many events old; every age is as likely
            snapshots.keep([kept])
            took.append(timed(lambda: Channels(log, snapshots=snapshots).find(stream)))  # type: ignore[arg-type]
        views.close()
    values = (statistics.median(took), percentile(took, 0.99), full / statistics.median(took))
    return dict(zip(COLD_NAMES, (round(each, 2) for each in values), strict=True))


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    print(json.dumps(report(Path(sys.argv[1]))))
