"""A log of many commits and its export, in small frames and files so that there are several of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.histories import OTHER_STREAM, History, interleaved
from tests.support.stores import new_log, note
from watchtower.store.create import open_store
from watchtower.store.exports import records, write
from watchtower.store.exports.manifest import Digests, Manifest, decode_manifest, encode_manifest
from watchtower.store.exports.replay import fold_digests
from watchtower.store.exports.write import Wish, export
from watchtower.store.source import LogSource, SqliteSource

STEPS = (1, 3, 11, 2, 5, 17, 9, 1, 2, 30, 40, 6)
NOTES = 60


def long_log(directory: Path) -> Path:
    """A log with two channels, some blocks, and streams of notes; commits of one to seven events."""
    path = new_log(directory)
    with open_store(path) as store:
        for recorded in interleaved(History().play(STEPS).events, History(OTHER_STREAM).play(STEPS[3:]).events):
            store.append([recorded.envelope], chain=True)
        for number in range(NOTES):
            store.append([note(f"c{number:022}", version) for version in range(1, 2 + number % 7)])
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


def resealed(directory: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Change the manifest of an export as one would who knows the format: sums fit again."""
    manifest = change(decode_manifest((directory / "manifest.json").read_bytes()))
    raw = encode_manifest(manifest)
    (directory / "manifest.json").write_bytes(raw)
    (directory / "SHA256SUMS").write_bytes(write.sums(manifest, raw))
