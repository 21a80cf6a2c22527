"""Whether an export consists of the files that its manifest lists, and which event a damaged file hurts first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from domain.log_chain import HASH_SIZE, next_head
from watchtower.audit.findings import ExitCode, Finding
from watchtower.ports import StoreError
from watchtower.store.exports.manifest import MANIFEST, SIGNATURE, SUMS, Manifest, encode_manifest
from watchtower.store.exports.records import (
    ExportMalformed,
    Frame,
    RecordFile,
    decode_frame,
    file_fault,
    read_frame,
    salvage,
)
from watchtower.store.exports.rows import entry_leaf, read_commit, read_entry
from watchtower.store.exports.source import ExportSource
from watchtower.store.exports.write import sums
from watchtower.store.source import Unreadable

_Fits = Callable[[int, bytes], bool]
"""Whether a record is the one of this number, by what the other files say."""


def check_files(directory: Path, manifest: Manifest) -> list[Finding]:
    """Missing, extra and changed files of an export, each with the first event that suffers where that can be told."""
    listed = manifest.listed()
    findings = [_malformed(f"{name} does not belong to this export") for name in _strangers(directory, set(listed))]
    raw = encode_manifest(manifest)
    if _read_small(directory / SUMS, 4 * len(raw)) != sums(manifest, raw):
        findings.append(_malformed(f"{SUMS} does not fit {MANIFEST}: one of them was changed"))
    records = {file.name: file for file in manifest.record_files()}
    for name, (sha256, size) in listed.items():
        fault = file_fault(directory / name, sha256, size)
        if fault is None:
            continue
        damaged = records.get(name)
        findings.append(_malformed(f"{name} {fault}") if damaged is None else _traced(directory, damaged, fault))
    return findings


def _malformed(sentence: str) -> Finding:
    return Finding(code=ExitCode.MALFORMED_EXPORT, sentence=sentence)


def _strangers(directory: Path, listed: set[str]) -> list[str]:
    """Names of everything that is not listed; a link is a stranger under any name."""
    known = listed | {MANIFEST, SUMS, SIGNATURE}
    folders = {name.rpartition("/")[0] for name in listed} - {""}
    strangers = []
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        fits = name in folders if path.is_dir() else name in known
        if path.is_symlink() or not fits:
            strangers.append(name)
    return strangers


def _read_small(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def _traced(directory: Path, file: RecordFile, fault: str) -> Finding:
    """The finding for a damaged file of records, with the first record that is not what the other files say."""
    kind = file.name.partition("/")[0]
    if kind == "streams":
        return _malformed(f"{file.name} {fault}; no event is in it, only where the events of streams are")
    what = "commits" if kind == "commits" else "events"
    span = f"{what} {file.first} to {file.last}"
    try:
        with ExportSource(directory) as source:
            number = _first_difference(directory, file, _judge(source, kind, file))
            if number is None:
                return _malformed(f"{file.name} {fault}; all its {span} are as they were")
            return _named(source, kind, number, f"{file.name} {fault}")
    except StoreError:
        return Finding(
            code=ExitCode.MALFORMED_EXPORT,
            position=None if kind == "commits" else file.first,
            sentence=f"{file.name} {fault}; which of its {span} suffered cannot be told, other files are damaged too",
        )


def _named(source: ExportSource, kind: str, number: int, fault: str) -> Finding:
    if kind == "commits":
        before = source.commits(number - 1, 1) if number > source.manifest.first_commit else []
        position = before[0].last_id + 1 if before else source.manifest.first_position
        sentence = f"{fault}; commit {number}, which begins with event {position}, is the first that is not as it was"
        return Finding(code=ExitCode.MALFORMED_EXPORT, position=position, sentence=sentence)
    stream = topic = ""
    if kind == "events":
        stream, _, topic, *_ = read_entry(source.entries(number, number)[0])
    name = f" (stream {stream}, topic {topic})" if stream else ""
    sentence = f"{fault}; event {number}{name} is the first that is not as it was"
    return Finding(code=ExitCode.MALFORMED_EXPORT, position=number, stream=stream, topic=topic, sentence=sentence)


def _first_difference(directory: Path, file: RecordFile, fits: _Fits) -> int | None:
    """Number of the first record that is missing or does not fit; None if all are there."""
    number, offset = file.first, 0
    for frame in file.frames:
        records = _given(directory, file.name, offset, frame)
        for place in range(frame.records):
            if place >= len(records) or not fits(number + place, records[place]):
                return number + place
        number, offset = number + frame.records, offset + frame.size
    return None


def _given(directory: Path, name: str, offset: int, frame: Frame) -> list[bytes]:
    try:
        compressed = read_frame(directory / name, offset, frame)
    except ExportMalformed:
        return []
    try:
        return decode_frame(compressed, frame)
    except ExportMalformed:
        return salvage(compressed, frame.records)


def _judge(source: ExportSource, kind: str, file: RecordFile) -> _Fits:
    if kind == "commits":
        return _chain_judge(source, file)
    if kind == "entries":
        leaves = _leaves(source, file.first, file.last)
        return lambda number, record: entry_leaf(record) == leaves[number - file.first]
    hashes = [read_entry(raw).state_hash for raw in source.entries(file.first, file.last)]
    return lambda number, record: hashlib.sha256(record).digest() == hashes[number - file.first]


def _leaves(source: ExportSource, first: int, last: int) -> list[bytes]:
    """Leaf hashes of the events from `first` to `last`, from the commits."""
    commit = source.commit_at(first)
    if commit is None:
        raise Unreadable(f"no commit holds event {first}")
    found: list[bytes] = []
    number, begin = commit.commit_no, commit.first_id
    while begin + len(found) <= last:
        for row in source.commits(number, 500):
            found += (row.leaves[at : at + HASH_SIZE] for at in range(0, len(row.leaves), HASH_SIZE))
            number += 1
    return found[first - begin : last - begin + 1]


def _chain_judge(source: ExportSource, file: RecordFile) -> _Fits:
    """Judges the commits of a file in order: each has to build on the one before."""
    heads = [source.head_before(file.first)]

    def fits(number: int, record: bytes) -> bool:
        try:
            commit = read_commit(record)
        except ExportMalformed:
            return False
        before = source.start_of(commit.first_id) or heads[-1]
        if (
            number != commit.commit_no
            or next_head(before, commit.first_leaf, commit.first_id, commit.leaves) != commit.head
        ):
            return False
        heads[-1] = commit.head
        return True

    return fits
