"""`watchtower audit show`: single events, what binds them, and every ending that has a code of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from domain.chain import BlockRef
from domain.events import (
    EVENT_TYPES,
    BlockConnected,
    FundingBroadcast,
    Payload,
    PreimageLearned,
    Source,
    SpendKind,
    SpendSeen,
    encode_payload,
)
from domain.log_chain import leaf
from domain.units import Side
from tests.support.exports import exported
from tests.support.tampering import Content, SqliteVictim, chained, content_of, grown_victim
from watchtower.audit.event_fields import fields_of
from watchtower.cli import _main
from watchtower.store.exports.write import Wish
from watchtower.store.source import Commit, RawRow

TXID = bytes(range(32))
SHOWN_TXID = TXID[::-1].hex()


@pytest.fixture
def victim(tmp_path: Path) -> SqliteVictim:
    """A log of seven commits."""
    return grown_victim(tmp_path)


def show(*arguments: object) -> Result:
    """Run the command without any settings."""
    return CliRunner().invoke(_main, ["audit", "show", *map(str, arguments)], catch_exceptions=False, env={})


def shown(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and document."""
    result = show(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def content(victim: SqliteVictim) -> Content:
    """What the log holds."""
    with victim.source() as source:
        return content_of(source)


def written(victim: SqliteVictim, *payloads: Payload) -> None:
    """A log with these events of one stream behind `LogOpened`, in one commit."""
    with victim.source() as source:
        rows: list[RawRow] = source.rows(1, 1)
        meta = source.meta
    rows += [(at + 1, "c1", at, each.TOPIC, encode_payload(each)) for at, each in enumerate(payloads, 1)]
    victim.replace(chained(meta, rows, [1, len(payloads)]))


def codes(document: dict[str, Any]) -> list[tuple[int, int]]:
    """Code and position of each finding."""
    return [(each["code"], each["position"]) for each in document["findings"]]


def positions(document: dict[str, Any]) -> list[int]:
    """The events that are shown."""
    return [each["position"] for each in document["events"]]


def largest(commits: Sequence[Commit]) -> Commit:
    """A commit of several events."""
    return max(commits, key=lambda each: each.leaf_count)


def test_one_event_with_what_binds_it(victim: SqliteVictim) -> None:
    """Its leaf, the commit that holds it and the head behind it are those of the chain."""
    honest = content(victim)
    commit = largest(honest.commits)
    row = honest.row(commit.last_id)

    code, document = shown(commit.last_id, "--log", victim.path)
    event = document["events"][0]

    assert 0 == code
    assert row[1:4] == (event["stream"], event["version"], event["topic"])
    assert leaf(*row[1:]).hex() == event["leaf"]
    assert (commit.commit_no, commit.first_id, commit.last_id) == tuple(event["commit"].values())
    assert commit.head.hex() == event["head"]
    assert len(row[4]) == event["state_size"]


def test_fields_by_name_with_transactions_in_display_order(victim: SqliteVictim) -> None:
    """Words for kinds, hexadecimal for bytes, a name for what is reversed; the text says it beside the value."""
    spend = SpendSeen(
        recorded_at=1_500_000,
        txid=TXID,
        kind=SpendKind.BREACH,
        side=Side.A,
        sequence=3,
        height=7,
        raw=b"\x01\x02",
        source=Source.MEMPOOL,
    )
    written(victim, spend)

    code, document = shown(2, "--log", victim.path)
    event, text = document["events"][0], show(2, "--log", victim.path).stdout

    assert 0 == code
    assert ("SpendSeen", "1970-01-01T00:00:01.5Z") == (event["name"], event["recorded_at"])
    assert f"In the mempool: revoked commitment of state 3 ({SHOWN_TXID[:8]})" == event["sentence"]
    assert (SHOWN_TXID, "0102", "BREACH") == tuple(event["fields"][each] for each in ("txid", "raw", "kind"))
    assert ["txid"] == event["display_order"]
    assert f"{SHOWN_TXID}  (display order)\n" in text
    assert f"head after  {event['head']}\n" in text


def test_blocks_and_outpoints_are_shown_as_nodes_show_them() -> None:
    """Inner values have the name of the field before their own."""
    block = BlockConnected(
        recorded_at=0, block=BlockRef(5, TXID), prev=TXID, chainwork=b"\x01", header=bytes(80), source=Source.BLOCK
    )
    funding = FundingBroadcast(
        recorded_at=0, channel_id=TXID, outpoint=TXID + bytes([2, 0, 0, 0]), raw=None, source=Source.BLOCK
    )

    assert {"height": 5, "hash": SHOWN_TXID} == fields_of(block).values["block"]
    assert ("block.hash", "prev") == fields_of(block).display_order
    assert f"{SHOWN_TXID}:2" == fields_of(funding).values["outpoint"]
    assert TXID.hex() == fields_of(funding).values["channel_id"]


def test_a_preimage_that_is_not_public_is_withheld(victim: SqliteVictim) -> None:
    """As in every read model; one that stands in a transaction is shown."""
    secret = PreimageLearned(recorded_at=0, payment_hash=TXID, preimage=bytes([9]) * 32, txid=None, source=Source.BLOCK)
    public = msgspec.structs.replace(secret, txid=TXID)
    written(victim, secret, public)

    withheld, told = shown("2..3", "--log", victim.path)[1]["events"]

    assert (None, ["preimage"]) == (withheld["fields"]["preimage"], withheld["withheld"])
    assert ("09" * 32, []) == (told["fields"]["preimage"], told["withheld"])
    assert "09" * 32 not in show(2, "--log", victim.path).stdout


@pytest.mark.parametrize("event", EVENT_TYPES, ids=lambda each: each.TOPIC)
def test_every_hash_of_transaction_or_block_has_a_known_name(event: type[Payload]) -> None:
    """A field of 32 or 36 bytes with another name would silently be shown in internal order."""
    internal = {
        "channel_id", "client_key", "head", "in_channel", "log_id", "out_channel", "payment_hash", "preimage",
        "prev_head", "revoked_secret", "salt", "secret", "state_hash", "stored_state_hash", "tower_id",
        "upload_sha256", "wheel_sha256",
    }  # fmt: skip
    reversed_ = {"by", "chain_hash", "conflict", "contest", "outpoint", "prev", "replaces"}
    fixed = {
        field.name
        for field in msgspec.structs.fields(event)
        if "min_length=32, max_length=32" in str(field.type) or "min_length=36" in str(field.type)
    }

    assert set() == {name for name in fixed - internal - reversed_ - {"buckets"} if not name.endswith("txid")}


def test_an_export_needs_no_settings(victim: SqliteVictim, tmp_path: Path) -> None:
    """And says the same as the log."""
    exported(victim.path, tmp_path / "made")

    assert shown("1..9", "--log", victim.path) == shown("1..9", "--export", tmp_path / "made")
    assert list(range(1, 10)) == positions(shown("1..9", "--export", tmp_path / "made")[1])


def test_exit_80_for_what_an_export_does_not_hold(victim: SqliteVictim, tmp_path: Path) -> None:
    """Events before its first one; payloads, of which the hashes are shown."""
    commit = content(victim).commits[3]
    exported(victim.path, tmp_path / "later", Wish(first=commit.first_id))
    exported(victim.path, tmp_path / "entries", Wish(entries_only=True))

    early, nothing = shown(commit.first_id - 1, "--export", tmp_path / "later")
    inside = shown(commit.first_id, "--export", tmp_path / "later")
    code, entries = shown(commit.first_id, "--export", tmp_path / "entries")
    whole = shown(commit.first_id, "--log", victim.path)[1]["events"][0]

    assert (80, []) == (early, positions(nothing))
    assert f"the first event here is {commit.first_id}" in nothing["findings"][0]["sentence"]
    assert (0, [whole]) == (inside[0], inside[1]["events"])
    assert (80, whole["leaf"], None) == (code, entries["events"][0]["leaf"], entries["events"][0]["fields"])
    assert whole["state_sha256"] == entries["events"][0]["state_sha256"]
    assert "payload is not here" in show(commit.first_id, "--export", tmp_path / "entries").stdout


def test_exit_10_for_a_damaged_export(victim: SqliteVictim, tmp_path: Path) -> None:
    """A file that cannot be read, or no export at all."""
    exported(victim.path, tmp_path / "made")
    file = tmp_path / "made" / "events" / "000000000001.zst"
    file.write_bytes(file.read_bytes()[:-9])

    code, document = shown("3..4", "--export", tmp_path / "made")
    none = show(3, "--export", tmp_path)

    assert (10, [(10, 3), (10, 4)], []) == (code, codes(document), positions(document))
    assert (10, True) == (none.exit_code, "manifest" in none.stderr)


def test_exit_20_for_a_changed_event(victim: SqliteVictim) -> None:
    """It is named and not shown; its neighbors are."""
    honest = content(victim)
    row = honest.row(4)
    victim.replace(honest.with_row(4, (*row[:4], row[4][:-1] + bytes([row[4][-1] ^ 1]))))

    code, document = shown("3..5", "--log", victim.path)
    text = show("3..5", "--log", victim.path)

    assert (20, [(20, 4)], [3, 5]) == (code, codes(document), positions(document))
    assert (20, True) == (text.exit_code, "event 4 does not hash to the leaf" in text.stderr)


def test_exit_20_for_a_changed_head(victim: SqliteVictim) -> None:
    """The head that is shown has to follow from the one before."""
    honest = content(victim)
    commit = honest.commits[3]
    victim.replace(honest.with_commit(commit.commit_no, msgspec.structs.replace(commit, head=bytes(32))))

    code, document = shown(commit.last_id, "--log", victim.path)

    assert (20, [(20, commit.first_id)]) == (code, codes(document))


def test_exit_20_for_an_event_that_no_commit_holds(victim: SqliteVictim) -> None:
    """Somebody appended it without the chain."""
    honest = content(victim)
    end = honest.commits[-1].last_id
    last = honest.row(end)
    victim.replace(honest.with_row(end, last, (end + 1, last[1], last[2] + 1, *last[3:])))

    code, document = shown(end + 1, "--log", victim.path)

    assert (20, [(20, end + 1)], []) == (code, codes(document), positions(document))


def test_exit_21_for_a_missing_event(victim: SqliteVictim) -> None:
    """The commit says that it was there."""
    victim.replace(content(victim).with_row(4))

    code, document = shown("4..5", "--log", victim.path)

    assert (21, [(21, 4)], [5]) == (code, codes(document), positions(document))


def test_exit_71_for_an_event_that_cannot_be_read(victim: SqliteVictim) -> None:
    """It is what was committed, so all but its fields is shown."""
    honest = content(victim)
    with victim.source() as source:
        rows = [*honest.rows[:1], (2, "c1", 1, "zz99", b"\x90")]
        victim.replace(chained(source.meta, rows, [1, 1]))

    code, document = shown(2, "--log", victim.path)

    assert (71, [(71, 2)], [2]) == (code, codes(document), positions(document))
    assert ("zz99", None) == (document["events"][0]["topic"], document["events"][0]["fields"])


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ("0", "has position 1"),
        ("x", "is no position"),
        ("5..", "is no position"),
        ("5..4", "runs backwards"),
        ("1..1001", "1,001 events; at most 1,000"),
        ("1..1000", "there is no event 1000 yet: the log ends at"),
        ("999999999999999", "the log ends at"),
    ],
)
def test_exit_2_for_positions_that_are_none(victim: SqliteVictim, position: str, words: str) -> None:
    """Each with a sentence."""
    result = show(position, "--log", victim.path)

    assert (2, True) == (result.exit_code, words in result.stderr)


def test_one_place_is_asked_only(victim: SqliteVictim, tmp_path: Path) -> None:
    """A log and an export at once would leave open which one was shown."""
    result = show(1, "--log", victim.path, "--export", tmp_path)

    assert (2, True) == (result.exit_code, "one of --log and --export" in result.stderr)
