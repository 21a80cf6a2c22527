"""Exports that were tampered with, cut off, or come from elsewhere: always found, and the event is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from domain.log_chain import entry, first_head, next_head
from tests.support.exports import (
    audited,
    bounded,
    copied,
    exported,
    long_log,
    records_of,
    rewritten,
    small_files,
)
from watchtower.audit.findings import ExitCode, Report
from watchtower.audit.known import KnownHead
from watchtower.receipts.tower_key import TowerKey
from watchtower.store.exports.manifest import read_manifest
from watchtower.store.exports.rows import entry_leaf, read_commit, read_entry, write_commit
from watchtower.store.exports.signature import signature_file
from watchtower.store.exports.write import Wish
from watchtower.store.source import Commit

pytestmark = pytest.mark.slow

KEY = TowerKey(bytes(31) + b"\x07")
SEEDS = range(8)


class Made:
    """Exports of one log, shared by all tests, that nobody changes."""

    def __init__(self, directory: Path) -> None:
        self.log = long_log(directory)
        self.whole, self.part, self.entries = (directory / name for name in ("whole", "part", "entries"))
        with pytest.MonkeyPatch.context() as monkeypatch:
            small_files(monkeypatch)
            exported(self.log, self.whole)
            exported(self.log, self.part, Wish(first=100))
            exported(self.log, self.entries, Wish(entries_only=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The exports."""
    return Made(tmp_path_factory.mktemp("exports"))


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy of the whole export, away from the tower."""
    return copied(made.whole, tmp_path / "copy")


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Report]:
    """Audits a directory."""
    return lambda directory, **options: audited(directory, tmp_path / "scratch", **options)


def first(report: Report) -> int | None:
    """Position of the first finding that has one."""
    return next((finding.position for finding in report.findings if finding.position is not None), None)


def flip(path: Path, at: int, bit: int = 1) -> None:
    """Change one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= bit
    path.write_bytes(raw)


def test_an_export_passes(made: Made, check: Callable[..., Report]) -> None:
    """Every event, commit and read model is looked at."""
    report = check(made.whole, replay=True)

    assert (ExitCode.PASSED, ()) == (report.exit_code, report.findings)
    assert report.events == report.log.last_position == read_manifest(made.whole).last_position
    assert report.events == next(each.items for each in report.checks if each.name == "read models")


def test_parts_and_entries_pass_but_are_incomplete(made: Made, check: Callable[..., Report]) -> None:
    """80, or 0 if the reader allows it."""
    assert ExitCode.INCOMPLETE == check(made.part).exit_code
    assert ExitCode.INCOMPLETE == check(made.entries).exit_code
    assert ExitCode.PASSED == check(made.part, allow_incomplete=True).exit_code
    assert ExitCode.PASSED == check(made.entries, allow_incomplete=True).exit_code


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["events", "entries", "commits"])
def test_a_flipped_byte_is_traced_to_an_event(copy: Path, check: Callable[..., Report], kind: str, seed: int) -> None:
    """The named event stands in the damaged frame; for a commit it is the first event of one in that frame."""
    chance = random.Random(f"{kind} {seed}")
    manifest = read_manifest(copy)
    file = chance.choice(getattr(manifest, kind))
    at = chance.randrange(file.size)
    starts = [sum(frame.size for frame in file.frames[:n]) for n in range(len(file.frames) + 1)]
    hit = next(n for n in range(len(file.frames)) if starts[n] <= at < starts[n + 1])
    begin = file.first + sum(frame.records for frame in file.frames[:hit])
    numbers = range(begin, begin + file.frames[hit].records)
    events = {read_commit(raw).commit_no: read_commit(raw).first_id for raw in records_of(copy, "commits")}
    expected = [events[number] for number in numbers] if kind == "commits" else list(numbers)
    flip(copy / file.name, at, 1 << chance.randrange(8))
    report = check(copy)

    assert ExitCode.MALFORMED_EXPORT == report.exit_code
    assert first(report) in [*expected, None]
    assert first(report) in expected or "as they were" in report.findings[0].sentence
    assert file.name in report.findings[0].sentence


def test_a_changed_letter_names_its_event(copy: Path, check: Callable[..., Report]) -> None:
    """Not only the frame: the event whose bytes differ, with stream and topic."""
    states, named = records_of(copy, "events"), read_entry(records_of(copy, "entries")[76])
    rewritten(copy, "events", [*states[:76], states[76][:-1] + b"\x7f", *states[77:]])
    bounded(copy, events=(msgspec.structs.replace(read_manifest(copy).events[0], sha256="00" * 32),))
    finding = check(copy).findings[0]

    assert (77, named.stream, named.topic) == (finding.position, finding.stream, finding.topic)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "README.txt"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_flipped_byte_in_the_papers_is_found(copy: Path, check: Callable[..., Report], name: str, seed: int) -> None:
    """Manifest, sums and readme vouch for each other."""
    at = random.Random(f"{name} {seed}").randrange((copy / name).stat().st_size)
    flip(copy / name, at)

    assert ExitCode.MALFORMED_EXPORT == check(copy).exit_code


def test_missing_extra_and_linked_files_are_found(made: Made, tmp_path: Path, check: Callable[..., Report]) -> None:
    """Each of them is named."""
    victim = read_manifest(made.whole).events[1]
    changes: dict[str, Callable[[Path], object]] = {
        f"{victim.name} is missing": lambda copy: (copy / victim.name).unlink(),
        "notes.txt does not belong": lambda copy: (copy / "notes.txt").write_text("hello"),
        "events/x does not belong": lambda copy: (copy / "events" / "x").mkdir(),
        "README.txt does not belong": lambda copy: (
            (copy / "README.txt").unlink(),
            (copy / "README.txt").symlink_to(made.whole / "README.txt"),
        ),
        "SHA256SUMS does not fit": lambda copy: (copy / "SHA256SUMS").unlink(),
        "has no manifest.json": lambda copy: (copy / "manifest.json").unlink(),
    }
    for number, (expected, change) in enumerate(changes.items()):
        copy = copied(made.whole, tmp_path / f"copy{number}")
        change(copy)
        report = check(copy)

        assert ExitCode.MALFORMED_EXPORT == report.exit_code
        assert expected in " ".join(finding.sentence for finding in report.findings)


@pytest.mark.parametrize("kind", ["events", "entries", "commits"])
def test_a_cut_file_names_what_was_cut_off(copy: Path, check: Callable[..., Report], kind: str) -> None:
    """The first record that is not there any more."""
    file = getattr(read_manifest(copy), kind)[-1]
    commits = {read_commit(raw).commit_no: read_commit(raw).first_id for raw in records_of(copy, "commits")}
    last = file.last - file.frames[-1].records + 1
    raw = (copy / file.name).read_bytes()
    (copy / file.name).write_bytes(raw[: -file.frames[-1].size])

    assert (commits[last] if kind == "commits" else last) == first(check(copy))


def test_swapped_files_are_found(copy: Path, check: Callable[..., Report]) -> None:
    """Two files of events under each other's name: the first event of each is named."""
    one, two = read_manifest(copy).events[:2]
    (copy / one.name).rename(copy / "events" / "aside")
    (copy / two.name).rename(copy / one.name)
    (copy / "events" / "aside").rename(copy / two.name)
    report = check(copy)

    assert {one.first, two.first} == {finding.position for finding in report.findings}


def test_several_damaged_files_are_all_named(copy: Path, check: Callable[..., Report]) -> None:
    """Even where no other file is left to trace the event with."""
    manifest = read_manifest(copy)
    for file in (manifest.events[0], manifest.entries[0], manifest.commits[0]):
        (copy / file.name).write_bytes(bytes(file.size))
    report = check(copy)

    assert 3 == len(report.findings)
    assert "other files are damaged too" in report.findings[-1].sentence


# ── with digests that fit: somebody who knows the format ─────────────────────────────────────────────────


def altered(records: list[bytes], seed: int, change: str) -> tuple[list[bytes], int]:
    """Records after one change, and the number (from 1) of the first that is not as it was."""
    chance = random.Random(f"{change} {seed}")
    at = chance.randrange(1, len(records) - 2)
    match change:
        case "drop":
            return records[:at] + records[at + 1 :], at + 1
        case "insert":
            return [*records[:at], records[at - 1], *records[at:]], at + 1
        case "swap":
            return [*records[:at], records[at + 1], records[at], *records[at + 2 :]], at + 1
        case "reverse":
            return records[:at] + records[at:][::-1], at + 1
        case _:
            return [*records[:at], records[at][:-1] + bytes((records[at][-1] ^ 1,)), *records[at + 1 :]], at + 1


@pytest.mark.parametrize("seed", SEEDS[:4])
@pytest.mark.parametrize("change", ["drop", "insert", "swap", "reverse", "flip"])
def test_events_that_were_moved_or_changed_are_named(
    copy: Path, check: Callable[..., Report], change: str, seed: int
) -> None:
    """Entries and states together, with digests made anew: the chain names the first event."""
    entries, at = altered(records_of(copy, "entries"), seed, change)
    states, _ = altered(records_of(copy, "events"), seed, change)
    rewritten(copy, "entries", entries)
    rewritten(copy, "events", states)
    bounded(copy, last_position=len(entries))
    report = check(copy)

    assert ExitCode.INTEGRITY == report.exit_code
    assert at == first(report)


@pytest.mark.parametrize("change", ["drop", "insert", "swap", "reverse", "flip"])
def test_entries_alone_show_it_too(made: Made, tmp_path: Path, check: Callable[..., Report], change: str) -> None:
    """Without payloads the entries are all there is."""
    copy = copied(made.entries, tmp_path / "copy")
    entries, at = altered(records_of(copy, "entries"), 3, change)
    rewritten(copy, "entries", entries)
    bounded(copy, last_position=len(entries))
    report = check(copy)

    assert ExitCode.INTEGRITY == report.exit_code
    assert at == first(report)


@pytest.mark.parametrize("change", ["drop", "insert", "swap", "reverse", "flip"])
def test_commits_that_were_moved_or_changed_are_found(copy: Path, check: Callable[..., Report], change: str) -> None:
    """Each head builds on the one before."""
    commits, _ = altered(records_of(copy, "commits"), 5, change)
    rewritten(copy, "commits", commits)
    bounded(copy, last_commit=len(commits))

    assert check(copy).exit_code in (ExitCode.INTEGRITY, ExitCode.ORDER)


def test_a_state_with_an_entry_of_its_own_is_named(copy: Path, check: Callable[..., Report]) -> None:
    """State and entry fit each other, the leaf in the commit does not."""
    states, entries = records_of(copy, "events"), records_of(copy, "entries")
    stream, version, topic, _, _ = read_entry(entries[49])
    states[49] = states[50]
    entries[49] = entry(stream, version, topic, states[49])
    rewritten(copy, "events", states)
    rewritten(copy, "entries", entries)
    bounded(copy)
    report = check(copy)

    assert (ExitCode.INTEGRITY, 50) == (report.exit_code, first(report))


def test_an_entry_that_does_not_fit_its_state_is_named(copy: Path, check: Callable[..., Report]) -> None:
    """The hash inside an entry is checked although the state itself is right; read models cannot be folded then."""
    entries = records_of(copy, "entries")
    entries[49] = entries[49][:-1] + b"\x00"
    rewritten(copy, "entries", entries)
    bounded(copy)
    report = check(copy, replay=True)

    assert (ExitCode.INTEGRITY, 50) == (report.exit_code, first(report))


# ── heads from outside ───────────────────────────────────────────────────────────────────────────────────


def head_of(directory: Path, **changes: object) -> KnownHead:
    """What somebody may have kept of the log in an export."""
    manifest = read_manifest(directory)
    known = KnownHead(
        log_id=bytes.fromhex(manifest.log_id),
        epoch=0,
        position=manifest.last_position,
        head=bytes.fromhex(manifest.head),
        source="a note",
    )
    return msgspec.structs.replace(known, **changes)


def test_a_tail_cut_at_a_commit_shows_beside_a_known_head(copy: Path, check: Callable[..., Report]) -> None:
    """Nothing inside the export can show it: 0 without the head, 41 with it."""
    known = head_of(copy)
    end = read_commit(records_of(copy, "commits")[-2])
    kept = {"commits": end.commit_no, "entries": end.last_id, "events": end.last_id}
    cut = {kind: records_of(copy, kind)[:number] for kind, number in kept.items()}
    for kind, records in cut.items():
        rewritten(copy, kind, records)
    bounded(copy, last_commit=end.commit_no, last_position=end.last_id, head=end.head.hex(), digests=None)

    assert ExitCode.PASSED == check(copy).exit_code
    assert ExitCode.ROLLBACK == check(copy, known=(known,)).exit_code


def test_a_history_that_was_written_anew_shows_beside_a_known_head(copy: Path, check: Callable[..., Report]) -> None:
    """All hashes fit each other: 0 without a head from outside, 40 with one."""
    known = head_of(copy)
    states, entries = records_of(copy, "events"), records_of(copy, "entries")
    states[60], (stream, version, topic, _, _) = states[61], read_entry(entries[60])
    entries[60] = entry(stream, version, topic, states[60])
    chain = _chained([read_commit(raw) for raw in records_of(copy, "commits")], entries, copy)
    rewritten(copy, "commits", [write_commit(commit) for commit in chain])
    rewritten(copy, "entries", entries)
    rewritten(copy, "events", states)
    bounded(copy, head=chain[-1].head.hex())

    assert ExitCode.PASSED == check(copy).exit_code
    assert ExitCode.FORK == check(copy, known=(known,)).exit_code


def _chained(commits: list[Commit], entries: list[bytes], copy: Path) -> list[Commit]:
    """The commits with leaves and heads that fit other entries."""
    manifest = read_manifest(copy)
    head = first_head(manifest.origin, bytes.fromhex(manifest.log_id), 0, 1, bytes(32))
    chain = []
    for commit in commits:
        leaves = b"".join(map(entry_leaf, entries[commit.first_id - 1 : commit.last_id]))
        head = next_head(head, commit.first_leaf, commit.first_id, leaves)
        chain.append(msgspec.structs.replace(commit, leaves=leaves, head=head))
    return chain


def test_an_export_of_another_log_is_refused(copy: Path, check: Callable[..., Report]) -> None:
    """A head that somebody kept names its log."""
    report = check(copy, known=(head_of(copy, log_id=b"\x09" * 16),))

    assert ExitCode.MALFORMED_EXPORT == report.exit_code
    assert "this export about log" in report.findings[0].sentence


def test_a_head_before_a_partial_export_cannot_be_compared(made: Made, check: Callable[..., Report]) -> None:
    """It is said, and it is no fork."""
    report = check(made.part, known=(head_of(made.part, position=3),))

    assert ExitCode.INCOMPLETE == report.exit_code
    assert "before the first one here" in " ".join(finding.sentence for finding in report.findings)


@pytest.mark.parametrize(
    ("claim", "value"),
    [("head", "11" * 32), ("origin", "somebody else"), ("log_id", "22" * 16), ("start_head", "33" * 32)],
)
def test_a_manifest_that_claims_something_else_is_found(
    copy: Path, check: Callable[..., Report], claim: str, value: str
) -> None:
    """Name and heads have to follow from the commits."""
    bounded(copy, **{claim: value})

    assert check(copy).exit_code in (ExitCode.INTEGRITY, ExitCode.MALFORMED_EXPORT)


@pytest.mark.parametrize(
    "bounds",
    [
        {"format": "watchtower-export/9"},
        {"first_position": 2},
        {"last_commit": 1},
        {"segments": ()},
        {"files": ()},
        {"first_position": 0},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    copy: Path, check: Callable[..., Report], bounds: dict[str, object]
) -> None:
    """Before any file is opened."""
    bounded(copy, **bounds)

    assert ExitCode.MALFORMED_EXPORT == check(copy).exit_code


def test_other_digests_of_read_models_are_found(copy: Path, check: Callable[..., Report]) -> None:
    """70, and the table is named."""
    digests = read_manifest(copy).digests
    assert digests is not None
    other = msgspec.structs.replace(digests, tables={**digests.tables, "timeline": "00" * 32})
    bounded(copy, digests=other)
    report = check(copy, replay=True)

    assert ExitCode.VIEWS == report.exit_code
    assert ["timeline"] == [word for word in report.findings[0].sentence.split() if word in other.tables]


def test_read_models_of_another_version_are_not_compared(copy: Path, check: Callable[..., Report]) -> None:
    """That is no difference, but incomplete."""
    digests = read_manifest(copy).digests
    assert digests is not None
    bounded(copy, digests=msgspec.structs.replace(digests, versions={**digests.versions, "timeline": 999}))

    assert ExitCode.INCOMPLETE == check(copy, replay=True).exit_code


# ── signatures ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_signed_manifest_passes_and_names_the_tower(copy: Path, check: Callable[..., Report]) -> None:
    """The reader compares the key."""
    manifest = (copy / "manifest.json").read_bytes()
    (copy / "manifest.sig").write_bytes(signature_file(manifest, KEY.tower_id, KEY.sign))
    report = check(copy)

    assert ExitCode.PASSED == report.exit_code
    assert KEY.tower_id.hex() in " ".join(each.sentence for each in report.checks)


def test_a_manifest_signed_by_another_tower_than_the_named_one(copy: Path, check: Callable[..., Report]) -> None:
    """A good signature of somebody else says nothing about the tower that is audited."""
    manifest = (copy / "manifest.json").read_bytes()
    (copy / "manifest.sig").write_bytes(signature_file(manifest, KEY.tower_id, KEY.sign))

    assert ExitCode.PASSED == check(copy, tower_id=KEY.tower_id).exit_code
    assert ExitCode.SIGNATURE == check(copy, tower_id=bytes(32)).exit_code


@pytest.mark.parametrize("seed", SEEDS)
def test_a_signature_that_was_changed_is_found(copy: Path, check: Callable[..., Report], seed: int) -> None:
    """31 for a wrong one, 10 for bytes that are none."""
    manifest = (copy / "manifest.json").read_bytes()
    signed = signature_file(manifest, KEY.tower_id, KEY.sign)
    (copy / "manifest.sig").write_bytes(signed)
    flip(copy / "manifest.sig", random.Random(seed).randrange(len(signed) - 1))

    assert check(copy).exit_code in (ExitCode.SIGNATURE, ExitCode.MALFORMED_EXPORT)
