"""`watchtower audit verify`: every exit code has a test that produces it."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from domain.chain import BlockRef
from domain.contract import keys
from domain.contract.receipts import LogReceipt, SignedReceipt, sign_receipt
from domain.events import BlockConnected, CursorStarted, HeadSealed, Payload, Source, StoreRestored, encode_payload
from tests.support.stores import new_log, note
from tests.support.tampering import STREAMS, Content, SqliteVictim, audit, chained, content_of, flip, grown, row, state
from watchtower.audit.findings import PRECEDENCE, ExitCode, deciding
from watchtower.audit.known import UnreadableHeads
from watchtower.audit.receipts import read_kept
from watchtower.audit.rules import rules_for
from watchtower.cli import _main
from watchtower.config import load
from watchtower.store.create import open_reader, open_store
from watchtower.store.high_water import mark_of, write_high_water
from watchtower.store.rebuild import rebuild
from watchtower.store.source import RawRow
from watchtower.store.sqlite_source import SqliteSource

SECRET = bytes(31) + b"\x07"
MINUTES = 60_000_000
STARTED = CursorStarted(recorded_at=0, block=BlockRef(5, bytes(32)), chain_hash=bytes(32), chainwork=b"\x01")


@pytest.fixture
def victim(tmp_path: Path) -> SqliteVictim:
    """A log of seven commits."""
    made = SqliteVictim(tmp_path)
    with made.source() as source:
        honest = grown(source, random.Random(2), commits=6)
    made.replace(honest)
    return made


def verify(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(_main, ["audit", "verify", *map(str, arguments)], catch_exceptions=False)


def verify_log(victim: SqliteVictim, *arguments: object) -> tuple[int, dict[str, object]]:
    """Exit code and document of an audit of one log; its channels were never registered, so rules are left out."""
    result = verify("--log", victim.path, "--json", "--progress", "none", "--no-domain-rules", *arguments)
    return result.exit_code, json.loads(result.stdout)


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


def content(victim: SqliteVictim) -> Content:
    """What the log holds."""
    with victim.source() as source:
        return content_of(source)


def mark(victim: SqliteVictim, path: Path, **changed: object) -> Path:
    """A high-water file of the log, with other values."""
    with victim.source() as source:
        write_high_water(path, msgspec.structs.replace(mark_of(source, 0), **changed))
    return path


def receipt(victim: SqliteVictim, position: int, **changed: object) -> bytes:
    """A signed receipt for an event of the log, with other values."""
    held = content(victim)
    commit = next(each for each in held.commits if each.first_id <= position <= each.last_id)
    place = 32 * (position - commit.first_id)
    made = LogReceipt(
        tower_id=keys.public_key(SECRET)[1:],
        subject=bytes(32),
        seq=1,
        upload_sha256=bytes(32),
        tip_height=1,
        log_id=bytes(16),
        epoch=0,
        position=position,
        leaf=commit.leaves[place : place + 32],
        head=commit.head,
    )
    body = msgspec.structs.replace(made, **changed).encode()
    return SignedReceipt(body, sign_receipt(SECRET, body)).encode()


def test_exit_0_for_an_honest_log(victim: SqliteVictim, tmp_path: Path) -> None:
    """The text says what was looked at; the file of the report holds the document."""
    report = tmp_path / "report.json"

    result = verify("--log", victim.path, "--no-domain-rules", "--report", report)

    assert 0 == result.exit_code
    assert "Verdict: all requested checks passed (exit code 0)" in result.stdout
    assert "none were given" in result.stdout
    assert "all requested checks passed" == json.loads(report.read_bytes())["verdict"]


def test_exit_0_beside_a_tower_that_writes(tmp_path: Path) -> None:
    """The end is fixed at the start: what is appended meanwhile is no finding."""
    path = new_log(tmp_path)
    with open_store(path) as store:
        store.append([note("c1", version) for version in range(1, 9)])
        result = verify("--log", path, "--json", "--no-domain-rules")
        store.append([note("c1", 9)])

    assert 0 == result.exit_code
    assert 9 == json.loads(result.stdout)["log"]["last_position"]


@pytest.mark.slow
def test_the_log_of_the_settings_is_compared_with_its_mark(tmp_path: Path) -> None:
    """Without `--log`: the tower's own log, and the high-water file that its settings name."""
    home = tmp_path / "tower"
    CliRunner().invoke(_main, ["init", "--network", "regtest", "--data-dir", str(home)], catch_exceptions=False)
    with SqliteSource(Path(load({}, config_path=str(home / "config.toml")).settings.event_log_path)) as source:
        marked = mark_of(source, 0)
    write_high_water(home / "high-water", marked)
    good = verify("--config", home / "config.toml")
    write_high_water(home / "high-water", msgspec.structs.replace(marked, position=99))
    behind = verify("--config", home / "config.toml")

    assert (0, 41) == (good.exit_code, behind.exit_code)
    assert "heads from outside compared" in good.stdout


def test_nothing_is_made_beside_a_copy(victim: SqliteVictim) -> None:
    """A copy is opened so that SQLite creates no file next to it."""
    before = {path.name for path in victim.path.parent.iterdir()}

    verify("--log", victim.path)

    assert before == {path.name for path in victim.path.parent.iterdir()}


def test_exit_1_if_the_report_cannot_be_written(victim: SqliteVictim, tmp_path: Path) -> None:
    """A file that cannot be made is no finding about the log."""
    result = verify("--log", victim.path, "--report", tmp_path / "nowhere" / "report.json")

    assert 1 == result.exit_code
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--from", 2, "--tail", 3), ("--views", "nowhere.db"), ("--no-views", "--views", "x"), ("--jobs", 0)],
    ids=["from and tail", "no views", "views and no views", "no jobs"],
)
def test_exit_2_for_wrong_arguments(victim: SqliteVictim, arguments: tuple[object, ...]) -> None:
    """Nothing is looked at."""
    assert 2 == verify("--log", victim.path, *arguments).exit_code


@pytest.mark.parametrize("text", [b"", b"origin x\nlog_id 00\n", b"RCP2", b"zz", b"\xff\xfe"])
def test_exit_2_for_a_file_without_heads(victim: SqliteVictim, tmp_path: Path, text: bytes) -> None:
    """A file that proves nothing must not look like a proof."""
    known = tmp_path / "known"
    known.write_bytes(text)

    assert 2 == verify("--log", victim.path, "--known", known).exit_code


def test_exit_2_for_heads_of_another_log(victim: SqliteVictim, tmp_path: Path) -> None:
    """They say nothing about this one."""
    known = mark(victim, tmp_path / "known", log_id=bytes([1]) * 16)

    result = verify("--log", victim.path, "--known", known)

    assert 2 == result.exit_code
    assert "is about log 0101" in result.stderr


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 99", None], ids=["no log", "missing"])
def test_exit_3_without_a_log(tmp_path: Path, statement: str | None) -> None:
    """No file, or a database that is no event log."""
    path = tmp_path / "other.db"
    if statement:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.close()

    assert "StoreCheckFailed" == _error(path)


def test_exit_3_for_a_newer_log(victim: SqliteVictim) -> None:
    """A log of a later version is not called damaged."""
    _edit(victim.path, "DROP TRIGGER meta_no_update; UPDATE log_meta SET schema = 99; PRAGMA user_version = 99")

    assert "StoreCheckFailed" == _error(victim.path)


def test_exit_20_for_a_changed_event(victim: SqliteVictim) -> None:
    """The event is named with its stream and topic."""
    held = content(victim)
    event_id, stream, version, topic, _ = held.rows[4]
    victim.replace(held.with_row(event_id, (event_id, stream, version, topic, state(77))))

    code, document = verify_log(victim)

    assert 20 == code
    assert [{"code": 20, "position": 5, "stream": stream, "topic": topic}] == [
        {name: found[name] for name in ("code", "position", "stream", "topic")} for found in document["findings"]
    ]


def test_exit_20_for_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Whatever stands in the place of the log was not committed by a tower."""
    path = tmp_path / "log.db"
    path.write_bytes(b"no database" * 1_000)

    assert 20 == verify("--log", path).exit_code


def test_exit_20_for_another_name_of_the_log(victim: SqliteVictim) -> None:
    """The row that names the log is bound by the first head and by the first event."""
    _edit(victim.path, "DROP TRIGGER meta_no_update; UPDATE log_meta SET origin = 'another/log'")

    code, document = verify_log(victim)

    assert 20 == code
    assert "the row log_meta names another log" in str(document["findings"])


def test_exit_21_for_a_missing_event(victim: SqliteVictim) -> None:
    """A hole in the middle."""
    victim.replace(content(victim).with_row(4))

    code, document = verify_log(victim)

    assert 21 == code
    assert "event 4 is missing" in str(document["findings"])


def test_exit_31_for_a_receipt_with_a_wrong_signature(victim: SqliteVictim, tmp_path: Path) -> None:
    """It proves nothing against the log; the auditor has to know."""
    known = tmp_path / "receipts"
    known.write_text(receipt(victim, 4)[:-1].hex() + "00\n")

    assert 31 == verify_log(victim, "--receipts", known)[0]


def test_receipts_in_a_directory_are_read_whatever_their_names(victim: SqliteVictim, tmp_path: Path) -> None:
    """A file that was left out without a word would pass for one that was compared."""
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "from-bob.txt").write_text(receipt(victim, 4)[:-1].hex() + "00\n")

    assert 31 == verify_log(victim, "--receipts", tmp_path / "receipts")[0]


def test_a_directory_without_receipts_is_refused(tmp_path: Path) -> None:
    """Who gives receipts shall not believe that they were compared."""
    with pytest.raises(UnreadableHeads, match="holds no receipt"):
        read_kept(tmp_path)


def test_exit_41_for_a_receipt_of_an_event_that_is_no_upload(victim: SqliteVictim, tmp_path: Path) -> None:
    """The event stands where the tower signed it, but it does not hold what was receipted."""
    known = tmp_path / "receipts"
    known.write_text(receipt(victim, 4).hex() + "\n")

    code, document = verify_log(victim, "--receipts", known)

    assert 41 == code
    assert "does not hold the upload" in str(document["findings"])


@pytest.mark.parametrize("changed", [{"head": bytes(32)}, {"leaf": bytes(32)}], ids=["head", "leaf"])
def test_exit_40_for_a_receipt_of_another_history(victim: SqliteVictim, tmp_path: Path, changed: dict) -> None:
    """The tower signed something that the log does not hold."""
    known = tmp_path / "receipts"
    known.write_text(receipt(victim, 4, **changed).hex() + "\n")

    assert 40 == verify_log(victim, "--receipts", known)[0]


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
    _edit(views, "UPDATE chain_tip SET height = height + 1")

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
    _edit(views, "UPDATE views_meta SET log_id = x'01'")

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
    _edit(victim.path, "UPDATE stored_events SET topic = CAST(x'ff41ff42' AS TEXT) WHERE rowid = 6", guards=True)

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


def _error(path: Path) -> str:
    """The class of the error that `main` turns into an exit code."""
    return type(CliRunner().invoke(_main, ["audit", "verify", "--log", str(path)]).exception).__name__


def _edit(path: Path, statements: str, *, guards: bool = False) -> None:
    """Change a database as no program of ours can."""
    connection = sqlite3.connect(path, isolation_level=None)
    kept = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall() if guards else []
    for name, _ in kept:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements.split(";"):
        connection.execute(statement)
    for _, text in kept:
        connection.execute(text)
    connection.close()
