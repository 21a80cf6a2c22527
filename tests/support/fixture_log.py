"""Logs that a released version wrote, kept in `tests/fixtures/logs/<version>/` for ever.

`python -m tests.support.fixture_log` writes those of the present version; it never touches any that are there. Keys,
clocks and stories are fixed: the same program gives the same rows. Beside each log lie its export and `expected.json`,
what that version made of it.

    tower      a tower on a chain: a breach, its penalty, a reorg that takes all away, seals, a restored copy
    segments   the same in two files: a channel that its counterparty closed and the tower settled
    stories    a party and its updates, claims, disputes, bids; and every topic that no story has
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import zstandard

import watchtower
from domain.chain import chain_hash
from domain.contract.params import SEGWIT
from domain.events import (
    CHAIN_STREAM,
    EVENT_TYPES,
    LOG_STREAM,
    CoveredBy,
    Envelope,
    HeadSealed,
    LogOpened,
    Payload,
    ReceiptsCovered,
    Recorded,
    SoftwareDeployed,
    StoreRestored,
)
from domain.log_chain import sealed_head_hash
from projections.catalog import PROJECTIONS
from projections.channel_info import TABLE as CHANNEL_INFO
from projections.projector import Projector
from projections.timeline import row_of
from tests.fakes.rows import MemoryRows
from tests.fakes.store import STREAM_KEY
from tests.support import audited
from tests.support.exports import fold
from tests.support.golden import EXAMPLES
from tests.support.receipts import KEY
from watchtower.store.create import create_store, open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.exports.write import Wish, export
from watchtower.store.reader import LogReader
from watchtower.store.segments.cut import close_segment
from watchtower.store.segments.source import open_log_files
from watchtower.store.source import LogSource

LOGS = Path(__file__).parent.parent / "fixtures" / "logs"
NAME = "log.db"
CHAIN = chain_hash("regtest")
LOG_ID = bytes(range(16))
LATER = 1_700_000_000_000_000
PACKED = ".zst"


# ── the stories ──────────────────────────────────────────────────────────────────────────────────────────


def _jobs_of(events: Sequence[Envelope]) -> list[list[Envelope]]:
    """Jobs as a tower writes them: a block with all that it causes, and runs of at most seven other events."""
    jobs: list[list[Envelope]] = []
    for event in events:
        if not jobs or event.stream == CHAIN_STREAM or len(jobs[-1]) == 7:
            jobs.append([])
        jobs[-1].append(event)
    return jobs


def _story(told: Sequence[Recorded], stream: str = "") -> list[Envelope]:
    """The events of a story without the opening of its log; those of its channel in another stream if one is given."""
    kept = [each.envelope for each in told if not isinstance(each.envelope.payload, LogOpened)]
    return [msgspec.structs.replace(each, stream=stream or each.stream) for each in kept]


def _append(store: SqliteEventStore, events: Sequence[Envelope]) -> None:
    for job in _jobs_of(events):
        store.append(job, chain=True)


def _about_the_log(store: SqliteEventStore, *payloads: Payload) -> None:
    for payload in payloads:
        version = store.version(LOG_STREAM) + 1
        store.append([Envelope(LOG_STREAM, version, payload.TOPIC, payload)])


def _seal(store: SqliteEventStore) -> HeadSealed:
    place = store.place(store.last_id())
    signature = KEY.sign(sealed_head_hash(LOG_ID, place.position, place.head))
    return HeadSealed(recorded_at=LATER, position=place.position, head=place.head, sig=signature)


def _tower(path: Path) -> None:
    with open_store(path) as store:
        software = {**msgspec.structs.asdict(EXAMPLES[SoftwareDeployed.TOPIC]), "version": watchtower.__version__}
        _about_the_log(store, SoftwareDeployed(**software))
        _append(store, _story(audited.punished()))
        _about_the_log(store, _seal(store))
        end = store.place(store.last_id())
        restored = StoreRestored(
            recorded_at=LATER, epoch=1, position=end.position, head=end.head, high_water=end.position + 3, source="copy"
        )
        covered = ReceiptsCovered(recorded_at=LATER, epoch=1, by=CoveredBy(1), missing=0)
        _about_the_log(store, restored, covered, _seal(store))


def _segments(path: Path) -> None:
    events = _story(audited.settled())
    half = next(at for at in range(len(events) // 2, len(events)) if events[at].stream == CHAIN_STREAM)
    with open_store(path) as store:
        _append(store, events[:half])
    close_segment(path, LATER)
    with open_store(path) as store:
        _append(store, events[half:])


def _stories(path: Path) -> None:
    channels = {letter: "c" + letter * 22 for letter in "cdus"}
    told = [
        *_story(audited.of_party()),
        *_story(audited.claimed(), channels["c"]),
        *_story(audited.disputed(), channels["d"]),
        *_story(audited.updated(), channels["u"]),
        *_story(audited.updated(SEGWIT), channels["s"]),
    ]
    topics = {event.topic for event in told}
    others = [Envelope(f"x{t}", 1, t, EXAMPLES[t]) for t in sorted(EXAMPLES) if t not in topics]
    with open_store(path) as store:
        _append(store, [*told, *others])


STORIES: dict[str, Callable[[Path], None]] = {"tower": _tower, "segments": _segments, "stories": _stories}


# ── what a version made of them ──────────────────────────────────────────────────────────────────────────


def _plain(row: Any) -> dict[str, Any]:
    """A row as JSON has it: bytes in hexadecimal digits."""
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in msgspec.structs.asdict(row).items()}


def seen(log: LogReader) -> dict[str, Any]:
    """What the read models say: every channel's row, and its timeline without words that may change."""
    rows = MemoryRows()
    for _ in Projector(log, rows, PROJECTIONS).catch_up():
        pass
    entries: dict[str, list[list[Any]]] = {}
    for recorded in log.read_log(0, log.last_id()):
        if recorded.envelope.stream.startswith("c") and recorded.envelope.stream != CHAIN_STREAM:
            entry = _plain(row_of(recorded))
            facts = [entry[name] for name in ("version", "id", "recorded_at", "height", "txid")]
            entries.setdefault(recorded.envelope.stream, []).append(facts)
    channels = [_plain(CHANNEL_INFO.read(row)) for row in rows.page(CHANNEL_INFO, None, 1_000)]
    return {"channels": channels, "timeline": entries}


def facts_of(source: LogSource) -> dict[str, Any]:
    """How long the log is, its head, and how often it has each topic."""
    last, meta = source.last_commit(), source.meta
    topics = Counter(row[3] for row in source.rows(1, last.last_id))
    return {
        "schema": meta.schema,
        "log_id": meta.log_id.hex(),
        "last_id": last.last_id,
        "head": last.head.hex(),
        "topics": dict(sorted(topics.items())),
    }


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────


def pack(directory: Path, target: Path) -> None:
    """Compress every file of a closed log into a directory."""
    databases = (each for each in directory.rglob("*.db") if each.is_file())
    for path in sorted(databases):
        packed = target / (str(path.relative_to(directory)) + PACKED)
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(zstandard.ZstdCompressor(level=19).compress(path.read_bytes()))


def unpack(fixture: Path, directory: Path) -> Path:
    """The log of a fixture as files that can be opened; returns the path of the log."""
    for packed in (fixture / "log").rglob("*" + PACKED):
        path = directory / str(packed.relative_to(fixture / "log")).removesuffix(PACKED)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zstandard.ZstdDecompressor().decompress(packed.read_bytes()))
    return directory / NAME


def write(name: str, target: Path) -> None:
    """Play one story and put log, export and expectations into `target`."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "log" / NAME
        path.parent.mkdir()
        create_store(
            path, origin=f"fixture/{name}", chain_hash=CHAIN, log_id=LOG_ID, stream_key=STREAM_KEY, recorded_at=0
        )
        STORIES[name](path)
        with open_store(path) as log:
            found = seen(log)
        with closing(open_log_files(path)) as source:
            facts = facts_of(source)
            export(source, target / "export", Wish(), fold, lambda _: None)
        pack(path.parent, target / "log")
    text = json.dumps({"version": watchtower.__version__, **facts, **found}, indent=1, sort_keys=True)
    (target / "expected.json").write_text(text + "\n")


def main() -> None:
    """Write the fixtures of this version; refuse if there are any."""
    target = LOGS / watchtower.__version__
    if target.exists():
        sys.exit(f"{target} exists: what a version wrote stays as it is")
    for name in STORIES:
        (target / name).mkdir(parents=True)
        write(name, target / name)
    missing = {event.TOPIC for event in EVENT_TYPES} - _topics(target)
    if missing:
        sys.exit(f"no log has the topics {', '.join(sorted(missing))}")


def _topics(target: Path) -> set[str]:
    return {topic for path in target.glob("*/expected.json") for topic in json.loads(path.read_text())["topics"]}


if __name__ == "__main__":
    main()
