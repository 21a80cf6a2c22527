"""A log of many commits and its export, in small frames and files so that there are several of each."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from time import monotonic

import msgspec
import pytest

from tests.support.histories import OTHER_STREAM, History, interleaved
from tests.support.stores import new_log, note
from watchtower.audit.export_check import ExportAudit
from watchtower.audit.findings import Report
from watchtower.audit.progress import Progress
from watchtower.audit.verify import Wish as AuditWish
from watchtower.store.create import open_store
from watchtower.store.exports import records, write
from watchtower.store.exports.manifest import Digests, Manifest, decode_manifest, encode_manifest
from watchtower.store.exports.records import RecordReader, RecordWriter
from watchtower.store.exports.replay import fold_digests
from watchtower.store.exports.write import Wish, export
from watchtower.store.source import LogSource
from watchtower.store.sqlite_source import SqliteSource

STEPS = (1, 3, 11, 2, 5, 17, 9, 1, 2, 30, 40, 6)
NOTES = 60


def long_log(directory: Path) -> Path:
    """A log with two channels, some blocks, and streams of notes; commits of one to seven events."""
    path = new_log(directory)
    with open_store(path) as store:
        for number in range(NOTES):
            stream, versions = f"k{number:022}", range(1, 2 + number % 7)
            store.append([note(stream, version, 10 * number + version) for version in versions])
        for recorded in interleaved(History().play(STEPS).events, History(OTHER_STREAM).play(STEPS[3:]).events):
            store.append([recorded.envelope], chain=True)
    return path


def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of 8 and files of 40 records."""
    monkeypatch.setattr(records, "FRAME_RECORDS", 8)
    monkeypatch.setattr(write, "FILE_RECORDS", 40)


def fold(source: LogSource, until: int, scratch: Path) -> Digests:
    """The digests of the read models."""
    return fold_digests(source, until, scratch, lambda _: None)[0]


def exported(log: Path, target: Path, wish: Wish | None = None) -> Manifest:
    """Export a log file."""
    with SqliteSource(log) as source:
        return export(source, target, wish or Wish(), fold, lambda _: None)


def copied(directory: Path, target: Path) -> Path:
    """A copy of an export, to be tampered with."""
    return Path(shutil.copytree(directory, target))


def audited(directory: Path, scratch: Path, **options: object) -> Report:
    """The report on an export; options are those of `Wish`, and `replay`."""
    replay = bool(options.pop("replay", False))
    wish = AuditWish(**{"storage": False, **options})  # type: ignore[arg-type]
    progress = Progress("none", sys.stderr, monotonic)
    return ExportAudit(directory, wish, progress, threading.Event(), scratch, replay=replay).run()


def records_of(directory: Path, kind: str) -> list[bytes]:
    """All records of a kind."""
    files = getattr(decode_manifest((directory / "manifest.json").read_bytes()), kind)
    return list(RecordReader(directory, files).read(files[0].first, files[-1].last))


def rewritten(directory: Path, kind: str, changed: list[bytes]) -> None:
    """Put other records in place of all records of a kind, in one file, with a manifest that fits."""
    first = getattr(_manifest(directory), kind)[0].first
    shutil.rmtree(directory / kind)
    writer = RecordWriter(directory, f"{kind}/{first:012}.zst", first)
    for record in changed:
        writer.add(record)
    bounded(directory, **{kind: (writer.finish(),)})


def _manifest(directory: Path) -> Manifest:
    """The manifest, even one that contradicts itself."""
    return msgspec.json.decode((directory / "manifest.json").read_bytes(), type=Manifest)


def bounded(directory: Path, **bounds: object) -> None:
    """Let the manifest say other bounds and heads, and the sums fit it."""
    changed = msgspec.structs.replace(_manifest(directory), **bounds)
    raw = encode_manifest(changed)
    (directory / "manifest.json").write_bytes(raw)
    (directory / "SHA256SUMS").write_bytes(write.sums(changed, raw))
