"""`audit verify` on logs whose history is not what somebody else knows, on read models, and on parts of a log."""

from __future__ import annotations

import random
import re
from pathlib import Path

import msgspec
import pytest

from domain.chain import BlockRef
from domain.events import BlockConnected, CursorStarted, HeadSealed, Payload, Source, StoreRestored, encode_payload
from tests.support.tampering import (
    STREAMS,
    SqliteVictim,
    audit,
    chained,
    flip,
    grown_victim,
    row,
    state,
)
from tests.support.verified import content, edited, mark, verify, verify_log
from watchtower.audit.findings import PRECEDENCE, ExitCode, deciding
from watchtower.audit.rules import rules_for
from watchtower.store.create import open_reader
from watchtower.store.rebuild import rebuild
from watchtower.store.source import RawRow

MINUTES = 60_000_000


STARTED = CursorStarted(recorded_at=0, block=BlockRef(5, bytes(32)), chain_hash=bytes(32), chainwork=b"\x01")


@pytest.fixture
def victim(tmp_path: Path) -> SqliteVictim:
    """A log of seven commits."""
    return grown_victim(tmp_path)


def written(victim: SqliteVictim, *payloads: tuple[str, Payload]) -> None:
    """Put a log in place that holds these events behind `LogOpened`, one per commit."""
    with victim.source() as source:
        rows: list[RawRow] = source.rows(1, 1)
        meta = source.meta
    versions: dict[str, int] = {"log": 1}
    for stream, payload in payloads:
        versions[stream] = versions.get(stream, 0) + 1
        rows.append((len(rows) + 1, stream, versions[stream], payload.TOPIC, encode_payload(payload)))
    victim.replace(chained(meta, rows, [1] * len(rows)))


def test_exit_40_for_another_head_at_the_mark(victim: SqliteVictim, tmp_path: Path) -> None:
    """The high-water file knows better."""
    assert 40 == verify_log(victim, "--known", mark(victim, tmp_path / "known", head=bytes(32)))[0]


def test_exit_40_for_a_mark_within_a_commit(victim: SqliteVictim, tmp_path: Path) -> None:
    """A mark stands at the end of a commit; commits that were put together make another history."""
    commit = max(content(victim).commits, key=lambda each: each.leaf_count)
    known = mark(victim, tmp_path / "known", position=commit.last_id - 1, head=commit.head)

    assert 40 == verify_log(victim, "--known", known)[0]


def test_exit_40_for_a_sealed_head_that_the_log_does_not_have(victim: SqliteVictim) -> None:
    """The tower's own statement about its log."""
    written(victim, ("log", HeadSealed(recorded_at=0, position=1, head=bytes(32), sig=bytes(64))))

    assert 40 == verify_log(victim)[0]


def test_exit_0_for_a_sealed_head(victim: SqliteVictim) -> None:
    """The head at its position."""
    head = content(victim).commits[0].head
    written(victim, ("log", HeadSealed(recorded_at=0, position=1, head=head, sig=bytes(64))))

    code, document = verify_log(victim)

    assert 0 == code
    assert 1 == next(check["items"] for check in document["checks"] if check["name"] == "sealed heads")


def test_exit_41_for_a_log_that_ends_too_early(victim: SqliteVictim, tmp_path: Path) -> None:
    """An older copy, or a tail cut at a commit."""
    assert 41 == verify_log(victim, "--known", mark(victim, tmp_path / "known", position=10_000))[0]


def restored(victim: SqliteVictim, **changed: object) -> StoreRestored:
    """The log went on behind its first event."""
    event = StoreRestored(
        recorded_at=0, epoch=1, position=1, head=content(victim).commits[0].head, high_water=9, source="backup"
    )
    return msgspec.structs.replace(event, **changed)


def test_exit_41_for_an_admitted_restore(victim: SqliteVictim, tmp_path: Path) -> None:
    """The log says itself that it went on from an older copy: no fork, but what was promised is gone."""
    written(victim, ("c1", STARTED))
    event = restored(victim)
    written(victim, ("log", event), ("log", event))
    known = mark(victim, tmp_path / "known", position=2, head=bytes(32))

    code, document = verify_log(victim, "--known", known)

    assert 41 == code
    assert "went on from an older copy" in str(document["findings"])
    assert "another head than it has" not in str(document["findings"])


@pytest.mark.parametrize("changed", [{"head": bytes(32)}, {"position": 2}], ids=["another_head", "not_reached"])
def test_exit_40_for_a_restore_that_the_chain_contradicts(
    victim: SqliteVictim, tmp_path: Path, changed: dict[str, object]
) -> None:
    """It is named, and no excuse for a known head that is not there."""
    written(victim, ("c1", STARTED))
    written(victim, ("log", restored(victim, **changed)), ("c1", STARTED))
    known = mark(victim, tmp_path / "known", position=3, head=bytes(32))

    code, document = verify_log(victim, "--known", known)
    found = document["findings"]

    assert 40 == code
    assert [(40, 2, "lg06"), (40, 3, "")] == [(each["code"], each["position"], each["topic"]) for each in found]  # type: ignore[attr-defined, index]


@pytest.mark.parametrize(("arguments", "expected"), [((), 0), (("--strict-time",), 50)], ids=["warned", "strict"])
@pytest.mark.parametrize("stretch", [1, 100], ids=["between", "within"])
def test_exit_50_for_times_that_run_back(
    victim: SqliteVictim, tmp_path: Path, arguments: tuple[str, ...], expected: int, stretch: int
) -> None:
    """Three minutes back are told in any case; strict audits fail. Two minutes are the clock's business."""
    times = (10 * MINUTES, 8 * MINUTES, 20 * MINUTES, 17 * MINUTES)
    with victim.source() as source:
        rows = [*source.rows(1, 1), *(row(at + 2, "c1", at + 1, state(at, when)) for at, when in enumerate(times))]
        victim.replace(chained(source.meta, rows, [1] * len(rows)))

    code, document = verify_log(victim, *arguments)
    with victim.source() as source:
        cut = audit(source, tmp_path / "scratch", stretch=stretch)

    assert expected == code
    assert [5] == [found["position"] for found in document["findings"]]
    assert [5] == [found.position for found in cut.findings]


def test_exit_70_for_a_changed_read_model(victim: SqliteVictim, tmp_path: Path) -> None:
    """The log is honest, what the tower shows is not."""
    written(victim, ("chain", STARTED))
    views = tmp_path / "views.db"
    with open_reader(victim.path) as log:
        rebuild(views, log)
    before = verify_log(victim, "--views", views)[0]
    edited(views, "UPDATE chain_tip SET height = height + 1")

    code, document = verify_log(victim, "--views", views)

    assert (0, 70) == (before, code)
    assert "differs from a replay" in str(document["findings"])


def test_exit_71_for_an_event_that_cannot_be_read(victim: SqliteVictim) -> None:
    """Committed like this: an unknown topic, and bytes that do not fit."""
    with victim.source() as source:
        rows = [*source.rows(1, 1), (2, "c1", 1, "zz99", b"\x90"), row(3, "c1", 2, b"\x93\xc3")]
        victim.replace(chained(source.meta, rows, [1, 2]))

    code, document = verify_log(victim)

    assert 71 == code
    assert [2, 3] == [found["position"] for found in document["findings"]]


def test_exit_71_for_an_event_that_cannot_be_folded(victim: SqliteVictim, tmp_path: Path) -> None:
    """Events of a channel that was never registered: the replay names the first one of each stream."""
    views = tmp_path / "views.db"
    with open_reader(victim.path) as log:
        rebuild(views, log)

    code, document = verify_log(victim, "--views", views)

    assert 71 == code
    assert set(STREAMS) == {found["stream"] for found in document["findings"]}


def test_exit_72_for_a_cursor_that_jumps(victim: SqliteVictim) -> None:
    """The log is honest, but a block was connected that does not follow the one before."""
    jumped = BlockConnected(
        recorded_at=0,
        block=BlockRef(9, bytes(32)),
        prev=bytes([1]) * 32,
        header=bytes(80),
        chainwork=b"\x02",
        source=Source.BLOCK,
    )
    written(victim, ("chain", STARTED), ("chain", jumped))

    ruled, document = verify_log(victim, "--domain-rules")
    unruled = verify_log(victim)[0]

    assert (72, 0) == (ruled, unruled)
    assert {3} == {found["position"] for found in document["findings"]}


@pytest.mark.parametrize(("arguments", "expected"), [((), 80), (("--allow-incomplete",), 0)])
def test_exit_80_for_read_models_of_another_log(
    victim: SqliteVictim, tmp_path: Path, arguments: tuple[str, ...], expected: int
) -> None:
    """They were asked for and cannot be compared."""
    written(victim, ("chain", STARTED))
    views = tmp_path / "views.db"
    with open_reader(victim.path) as log:
        rebuild(views, log)
    edited(views, "UPDATE views_meta SET log_id = x'01'")

    assert expected == verify_log(victim, "--views", views, *arguments)[0]


@pytest.mark.parametrize("code", PRECEDENCE)
def test_the_gravest_finding_decides(code: ExitCode) -> None:
    """Whatever follows it in the list does not matter."""
    lesser = PRECEDENCE[PRECEDENCE.index(code) :]

    assert code == deciding(reversed(lesser), strict_time=True)


def test_a_part_of_the_log_is_checked_from_the_stored_head(victim: SqliteVictim) -> None:
    """What stands before the part is not looked at; the commit that holds the position is."""
    held = content(victim)
    event_id, stream, version, topic, _ = held.rows[2]
    victim.replace(held.with_row(event_id, (event_id, stream, version, topic, state(77))))
    begin = held.commits[4]

    code, document = verify_log(victim, "--from", begin.last_id)

    assert 0 == code
    assert begin.first_id == document["log"]["first_position"]
    assert len(held.rows) - begin.first_id + 1 == document["events"]


def test_the_tail_is_a_part_too(victim: SqliteVictim) -> None:
    """The last events, rounded up to whole commits."""
    held = content(victim)

    code, document = verify_log(victim, "--tail", 1)

    assert 0 == code
    assert held.commits[-1].first_id == document["log"]["first_position"]


def test_names_of_a_tampered_log_cannot_steer_the_terminal(victim: SqliteVictim) -> None:
    """Control characters and bytes that are no text are shown as marks."""
    held = content(victim)
    event_id, _, version, topic, stored = held.rows[3]
    victim.replace(held.with_row(event_id, (event_id, "c\x1b[2J", version, topic, stored)))
    edited(victim.path, "UPDATE stored_events SET topic = CAST(x'ff41ff42' AS TEXT) WHERE rowid = 6", guards=True)

    result = verify("--log", victim.path)

    assert 20 == result.exit_code
    assert "\x1b" not in result.stdout


def test_rules_without_signatures_are_fewer_or_equal() -> None:
    """The rest of the rules stays."""
    assert {type(each) for each in rules_for(signatures=False)} <= {type(each) for each in rules_for(signatures=True)}


def test_a_report_names_only_so_many(victim: SqliteVictim, tmp_path: Path) -> None:
    """All are counted."""
    with victim.source() as source:
        rows = [*source.rows(1, 1), *(row(at, "c1", 2 * at, state(at)) for at in range(2, 1_203))]
        victim.replace(chained(source.meta, rows, [1, 1_201]))

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch")

    assert (1_000, {"21": 1_201}) == (len(report.findings), report.counts)


def test_the_program_on_the_page_agrees(victim: SqliteVictim) -> None:
    """Thirty lines without anything of ours: the head of the log, or the commit that does not fit."""
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    program = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "commit_chain" in code)
    program = program.replace("events.db", str(victim.path))
    held, printed = content(victim), []
    names = {"print": lambda *words: printed.append(words)}

    exec(program, names)
    victim.replace(flip(held, random.Random(1))[0])

    assert [("head", held.commits[-1].head.hex())] == printed
    with pytest.raises(AssertionError, match="commit"):
        exec(program, names)
    names["log"].close()
