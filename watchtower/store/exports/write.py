"""Making an export: from any source of raw rows to a directory that is complete once it has its name.

It is built beside its name and renamed at the end. What was finished before an interruption is written down after
every file, so that the same call goes on where it stopped. Every event is compared with its leaf on the way: a damaged
log is not exported as if it were whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path

import msgspec
import zstandard

import watchtower
from watchtower.host.durable import sync_path
from watchtower.ports import StoreError
from watchtower.store.exports.checked import PAGE, LogDamaged, checked_commits, checked_events, head_before
from watchtower.store.exports.manifest import (
    FORMAT,
    MANIFEST,
    README,
    SIGNATURE,
    SUMS,
    Digests,
    ListedFile,
    Manifest,
    Segment,
    Versions,
    encode_manifest,
)
from watchtower.store.exports.records import FILE_RECORDS, RecordFile, RecordWriter, file_fault
from watchtower.store.exports.rows import write_commit
from watchtower.store.exports.streams import write_streams
from watchtower.store.lock import InstanceLock
from watchtower.store.source import Border, LogSource, is_sane

_STATE = "progress.json"

Progress = Callable[[int], None]
"""Told the position that was reached, now and then."""

Sign = Callable[[bytes], bytes]
"""Makes the bytes of `manifest.sig` from those of the manifest."""

Fold = Callable[[LogSource, int, Path], Digests]
"""Folds a log up to a position, with a scratch file of this name, and gives the digests of the read models."""


StreamIndex = Callable[[], Iterable[tuple[str, int, int]]]
"""Stream, version and id of all events of a source, sorted by stream and version."""


class OutOfRange(StoreError):
    """The log does not have the positions that are to be exported, or the target is taken."""

    slug = "export-range"


class Wish(msgspec.Struct, frozen=True):
    """What is to be exported: positions from `first` to `until` (None: the end), whole commits around them."""

    first: int = 1
    until: int | None = None
    entries_only: bool = False


class _State(msgspec.Struct):
    """How far an export is: its fixed bounds, the finished files."""

    log_id: str
    wish: Wish
    first_commit: int
    last_commit: int
    first_position: int
    last_position: int
    start_head: str
    head: str
    events: list[RecordFile] = []
    entries: list[RecordFile] = []
    commits: list[RecordFile] = []
    streams: tuple[RecordFile, ...] = ()
    stream_keys: tuple[str, ...] = ()


def export(
    source: LogSource,
    target: Path,
    wish: Wish,
    fold: Fold | None,
    progress: Progress,
    sign: Sign | None = None,
    index: StreamIndex | None = None,
) -> Manifest:
    """Write an export of `source` to `target`, which must not exist; `index` adds where the events of streams are.

    An interrupted call leaves `<target>.partial`; the same call goes on with it, another one begins anew. Raises
    `StoreError`, among them `OutOfRange` and `LogDamaged`.
    """
    if target.exists():
        raise OutOfRange(f"{target} exists already; choose a new directory for the export")
    fresh = _bounds(source, wish)
    building = target.with_name(target.name + ".partial")
    building.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = InstanceLock(building / "export")
    try:
        state = _begin(source, building, fresh)
        _write_events(source, building, state, progress)
        _write_commits(source, building, state)
        if index is not None:
            state.streams, state.stream_keys = write_streams(building, index())
        digests = None
        if fold is not None and not wish.entries_only:
            digests = fold(source, state.last_position, building / "views.db")
        manifest = _finish(source, building, state, digests, sign)
        lock.path.unlink()
        building.rename(target)
        sync_path(target.parent)
    finally:
        lock.release()
    return manifest


def _begin(source: LogSource, building: Path, fresh: _State) -> _State:
    """The state that was written down for the same wish, or the fresh one in an emptied directory."""
    found = _read_state(building)
    if (
        found is not None
        and (found.log_id, found.wish) == (fresh.log_id, fresh.wish)
        and _goes_on(source, building, found)
    ):
        return found
    strangers = [path for path in building.iterdir() if path.name not in (_STATE, "export.lock")]
    if found is None and strangers:
        raise StoreError(f"{building} is in the way and was not begun by an export; remove it")
    for path in strangers:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _save(building, fresh)
    return fresh


def _goes_on(source: LogSource, building: Path, state: _State) -> bool:
    """Whether the log still has the head that was to be exported, and the files that were finished are there.

    A log that was restored meanwhile, or another one in its place, would give an export of two histories.
    """
    last = source.commits(state.last_commit, 1)
    if not last or (last[0].commit_no, last[0].head) != (state.last_commit, bytes.fromhex(state.head)):
        return False
    finished = (*state.events, *state.entries, *state.commits)
    return all(file_fault(building / file.name, file.sha256, file.size) is None for file in finished)


def _bounds(source: LogSource, wish: Wish) -> _State:
    """Whole commits: one that holds a wanted event comes with all its events."""
    stored, end = source.last_id(), source.last_commit()
    if not is_sane(end) and end.commit_no > 0:
        raise LogDamaged(stored, f"commit {end.commit_no}, the last one, was changed")
    if stored > end.last_id and wish.until is None:
        raise LogDamaged(end.last_id + 1, f"the commit chain ends at event {end.last_id}, the events at {stored}")
    until = end.last_id if wish.until is None else wish.until
    if not 0 < wish.first <= until <= end.last_id:
        raise OutOfRange(f"the log has the positions 1 to {end.last_id}; {wish.first} to {until} cannot be exported")
    first, last = source.commit_at(wish.first), source.commit_at(until)
    if first is None or last is None:
        raise LogDamaged(wish.first, f"no commit holds event {wish.first}")
    before = head_before(source, first)
    return _State(
        source.meta.log_id.hex(),
        wish,
        first.commit_no,
        last.commit_no,
        first.first_id,
        last.last_id,
        before.hex(),
        last.head.hex(),
    )


def _write_events(source: LogSource, building: Path, state: _State, progress: Progress) -> None:
    at = state.entries[-1].last + 1 if state.entries else state.first_position
    events = checked_events(source, at, state.last_position)
    while at <= state.last_position:
        count = min(FILE_RECORDS, state.last_position - at + 1)
        writers = [RecordWriter(building, f"{kind}/{at:012}.zst", at) for kind in _kinds(state)]
        try:
            for place in range(count):
                for writer, record in zip(writers, next(events), strict=False):
                    writer.add(record)
                if place % PAGE == 0:
                    progress(at + place - 1)
        except BaseException:
            for writer in writers:
                writer.abandon()
            raise
        for written, writer in zip((state.entries, state.events), writers, strict=False):
            written.append(writer.finish())
        _save(building, state)
        at += count
        progress(at - 1)


def _kinds(state: _State) -> tuple[str, ...]:
    return ("entries",) if state.wish.entries_only else ("entries", "events")


def _write_commits(source: LogSource, building: Path, state: _State) -> None:
    at = state.commits[-1].last + 1 if state.commits else state.first_commit
    while at <= state.last_commit:
        end = min(state.last_commit, at + FILE_RECORDS - 1)
        writer = RecordWriter(building, f"commits/{at:012}.zst", at)
        try:
            for commit in checked_commits(source, at, end):
                writer.add(write_commit(commit))
        except BaseException:
            writer.abandon()
            raise
        state.commits.append(writer.finish())
        _save(building, state)
        at = end + 1


def _finish(source: LogSource, building: Path, state: _State, digests: Digests | None, sign: Sign | None) -> Manifest:
    """The readme, the manifest, the list of sums, a signature; what the work left behind goes."""
    readme = files("watchtower.store.exports").joinpath(README).read_bytes()
    manifest = Manifest(
        format=FORMAT,
        log_id=state.log_id,
        origin=source.meta.origin,
        schema=source.meta.schema,
        first_position=state.first_position,
        last_position=state.last_position,
        first_commit=state.first_commit,
        last_commit=state.last_commit,
        start_head=state.start_head,
        head=state.head,
        entries_only=state.wish.entries_only,
        segments=_segments(source, state),
        events=tuple(state.events),
        entries=tuple(state.entries),
        commits=tuple(state.commits),
        files=(ListedFile(README, hashlib.sha256(readme).hexdigest(), len(readme)),),
        digests=digests,
        versions=Versions(watchtower.__version__, ".".join(map(str, zstandard.ZSTD_VERSION))),
        streams=state.streams,
        stream_keys=state.stream_keys,
    )
    _put(building / README, readme)
    raw = encode_manifest(manifest)
    _put(building / MANIFEST, raw)
    _put(building / SUMS, sums(manifest, raw))
    if sign is not None:
        _put(building / SIGNATURE, sign(raw))
    (building / _STATE).unlink()
    for path in building.iterdir():
        if path.is_dir():
            sync_path(path)
    sync_path(building)
    return manifest


def sums(manifest: Manifest, raw: bytes) -> bytes:
    """The lines that `sha256sum --check` reads, for every file of an export but this one and a signature."""
    listed = {name: sha256 for name, (sha256, _) in manifest.listed().items()}
    listed[MANIFEST] = hashlib.sha256(raw).hexdigest()
    return "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)).encode()


def _segments(source: LogSource, state: _State) -> tuple[Segment, ...]:
    """The segment in which the range begins, and those that begin within it."""
    meta = source.meta
    name = (meta.segment, meta.first_leaf, meta.first_id, meta.prev_head)
    begun = [each for each in (Border(*name, 1), *meta.borders) if each.first_id <= state.last_position]
    held = sum(each.first_id <= state.first_position for each in begun)
    return tuple(
        Segment(each.segment, each.first_leaf, each.first_id, each.prev_head.hex(), each.first_commit)
        for each in begun[max(0, held - 1) :]
    )


def _read_state(building: Path) -> _State | None:
    path = building / _STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_State)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        raise StoreError(f"{path} is damaged; remove {building} and export again") from None


def _save(building: Path, state: _State) -> None:
    fresh = building / (_STATE + ".new")
    _put(fresh, msgspec.json.encode(state))
    fresh.rename(building / _STATE)


def _put(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
