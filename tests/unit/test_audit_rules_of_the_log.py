"""What the log says about itself, and the same rules in the command, in exports and in processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from domain.contract import keys
from domain.errors import MalformedInput
from domain.events import (
    CoveredBy,
    HeadSealed,
    LogOpened,
    Payload,
    PenaltyPrepared,
    ReceiptsCovered,
    Recorded,
    SegmentClosed,
    StateUpdated,
    StoreRestored,
    encode_payload,
    envelopes,
)
from domain.log_chain import sealed_head_hash
from tests.bench.bulk_log import write_rows
from tests.bench.scale_log import channel_log
from tests.support.audited import (
    LOG,
    counted_in,
    forged,
    place_of,
    punished,
    recorded,
    ruled,
    updated,
)
from tests.support.exports import audited as of_export
from tests.support.exports import exported
from tests.support.lies import RULE, SIGNATURE, paid_elsewhere, signed
from tests.support.stores import new_log
from tests.support.tampering import SqliteVictim, audit, chained
from watchtower.audit import rules_channel
from watchtower.audit.findings import ExitCode
from watchtower.audit.rules import rules_for, tower_key_of
from watchtower.audit.rules_channel import ChannelRules
from watchtower.cli import _main
from watchtower.store.sqlite_source import SqliteSource

pytestmark = pytest.mark.slow

TOWER = bytes(31) + b"\x07"


def of_itself(*payloads: Payload) -> list[Recorded]:
    """A log that says only things about itself."""
    opened = LogOpened(
        recorded_at=0,
        log_id=bytes(16),
        origin="test/log",
        chain_hash=bytes(32),
        segment=0,
        prev_head=bytes(32),
        schema=1,
    )
    return recorded(envelopes("log", 0, [opened, *payloads]))


def sealed(position: int, secret: bytes = TOWER, head: bytes = bytes(32)) -> HeadSealed:
    """A head sealed by a tower."""
    signature = keys.sign_schnorr(secret, sealed_head_hash(bytes(16), position, head), bytes(32))
    return HeadSealed(recorded_at=0, position=position, head=head, sig=signature)


def restored(epoch: int, position: int = 1) -> StoreRestored:
    """The log went on from an older copy."""
    return StoreRestored(recorded_at=0, epoch=epoch, position=position, head=bytes(32), high_water=9, source="copy")


TOWER_KEY = keys.public_key(TOWER)[1:]


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        ((sealed(1), sealed(2)), []),
        ((sealed(1), sealed(2, bytes(31) + b"\x09")), [(SIGNATURE, 3)]),
        ((sealed(1), sealed(2, head=bytes(31) + b"\x01")), []),
        ((sealed(2),), [(RULE, 2)]),
        ((restored(1), restored(2)), []),
        ((restored(2), restored(2)), [(RULE, 3)]),
        ((restored(1, position=2),), [(RULE, 2)]),
        ((restored(1), ReceiptsCovered(recorded_at=0, epoch=1, by=CoveredBy.CLIENTS, missing=0)), []),
        ((ReceiptsCovered(recorded_at=0, epoch=1, by=CoveredBy.CLIENTS, missing=0),), [(RULE, 2)]),
        ((SegmentClosed(recorded_at=0, segment=0, position=1, head=bytes(32)),), []),
        ((SegmentClosed(recorded_at=0, segment=1, position=1, head=bytes(32)),), [(RULE, 2)]),
    ],
)
def test_what_the_log_says_about_itself(payloads: tuple[Payload, ...], expected: list[tuple[ExitCode, int]]) -> None:
    """Seals are the tower's and in order, epochs rise, segments are closed once."""
    found = ruled(of_itself(*payloads), tower_key=TOWER_KEY)

    assert expected == [(each.code, each.position) for each in found]


def test_without_a_key_no_seal_is_verified_and_the_report_says_so() -> None:
    """The log does not say which key its tower has."""
    events = of_itself(sealed(1, bytes(31) + b"\x09"))

    assert [] == ruled(events)
    assert 0 == counted_in(events).get("seals", 0)


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "ff" * 32])
def test_a_tower_key_that_is_none_is_refused(text: str) -> None:
    """It is 64 digits, and a point of the curve."""
    with pytest.raises(MalformedInput, match="tower_id"):
        tower_key_of(text)


def log_with(directory: Path, events: list[Recorded]) -> Path:
    """A log file with these events and a hash chain that fits them."""
    victim = SqliteVictim(directory)
    with victim.source() as source:
        rows = source.rows(1, 1)
        meta = source.meta
    kept = [each.envelope for each in events if each.envelope.stream != "log"]
    rows += [(at, e.stream, e.version, e.topic, encode_payload(e.payload)) for at, e in enumerate(kept, start=2)]
    victim.replace(chained(meta, rows, [1] * len(rows)))
    return victim.path


def audited(directory: Path, events: list[Recorded], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command on such a log."""
    log = str(log_with(directory, events))
    result = CliRunner().invoke(_main, ["audit", "verify", "--log", log, "--json", "--progress", "none", *arguments])
    return result.exit_code, json.loads(result.stdout)


def test_the_command_finds_nothing_in_an_honest_log(tmp_path: Path) -> None:
    """It counts what it computed again."""
    code, report = audited(tmp_path, punished())

    checks = {check["name"]: check["items"] for check in report["checks"]}
    assert (0, []) == (code, report["findings"])
    assert checks["signatures"] > 40 < checks["transactions"] + checks["secrets"] + 20


@pytest.mark.parametrize(("switches", "expected"), [((), 31), (("--no-signatures",), 0), (("--no-domain-rules",), 0)])
def test_exit_31_for_a_forged_signature_in_an_event(tmp_path: Path, switches: tuple[str, ...], expected: int) -> None:
    """The hash chain was made anew, so that only the signature itself gives the lie away."""
    events = updated()
    place = place_of(events, StateUpdated, 1)
    change = signed("sigs_b", "settle_a")(events[place].envelope.payload)

    code, _ = audited(tmp_path, forged(events, place, **change), "--no-views", *switches)

    assert expected == code


def test_exit_72_for_a_penalty_that_pays_somebody_else(tmp_path: Path) -> None:
    """The tower signed it with the right key, but not to the declared script."""
    events = updated()
    place = place_of(events, PenaltyPrepared, 1)

    code, report = audited(tmp_path, forged(events, place, **paid_elsewhere(events[place].envelope.payload)))

    assert (72, [place + 2]) == (code, [finding["position"] for finding in report["findings"]])


def test_exit_2_for_a_tower_key_that_is_none(tmp_path: Path) -> None:
    """Nothing is looked at."""
    result = CliRunner().invoke(_main, ["audit", "verify", "--log", str(new_log(tmp_path)), "--tower-key", "abc"])

    assert 2 == result.exit_code
    assert "64 hexadecimal digits" in result.stderr


def test_channels_that_are_not_in_use_are_kept_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one channel the findings are the same."""
    monkeypatch.setattr(rules_channel, "IN_USE", 0)
    events = updated()
    place = place_of(events, StateUpdated, 1)
    change = signed("sigs_b", "state")(events[place].envelope.payload)
    pieces = forged(events, place, **change)
    check = ChannelRules().start(LOG)

    found = [finding for each in pieces for finding in check.page([each])]

    assert [(SIGNATURE, place + 1)] == [(each.code, each.position) for each in found]


@pytest.mark.parametrize("number", [0, 1])
def test_an_export_is_judged_by_the_same_rules(tmp_path: Path, number: int) -> None:
    """What the tower exported fits its manifest, and still a forged signature in it is found."""
    events = updated()
    place = place_of(events, StateUpdated, number)
    change = signed("sigs_a", "commit_peer")(events[place].envelope.payload)
    exported(log_with(tmp_path, forged(events, place, **change)), tmp_path / "export")

    report = of_export(tmp_path / "export", tmp_path / "scratch", rules=rules_for(signatures=True))

    assert (SIGNATURE, [place + 2]) == (report.exit_code, [finding.position for finding in report.findings])


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_report(tmp_path: Path) -> None:
    """Shares of the streams in processes of their own; this log has made-up signatures, headers and work."""
    log = write_rows(tmp_path, channel_log(channels=1_500, events=6_500))
    rules = rules_for(signatures=False)

    with SqliteSource(log) as source:
        alone = audit(source, tmp_path / "alone", rules=rules, jobs=1)
    with SqliteSource(log) as source:
        together = audit(source, tmp_path / "together", rules=rules, jobs=2)

    assert RULE == alone.exit_code
    assert alone == together
