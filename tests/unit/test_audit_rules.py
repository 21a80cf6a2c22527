"""The rules of the audit: honest logs pass, and every lie that fits the hash chain is named with the right code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.chain import BlockRef
from domain.contract import keys
from domain.contract.params import SEGWIT
from domain.errors import MalformedInput
from domain.events import (
    BlockConnected,
    BlockDisconnected,
    BreachDetected,
    ChallengeAnswered,
    ChallengeReceived,
    ChannelErased,
    ChannelProposed,
    ChannelRegistered,
    ChannelResolved,
    ClaimPrepared,
    CloseProposed,
    CloseSigned,
    CoveredBy,
    Envelope,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    HeadSealed,
    LogOpened,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    ReceiptsCovered,
    Recorded,
    ResolvedAs,
    SegmentClosed,
    SettleBroadcast,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SoftFinal,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendSeen,
    StateAccepted,
    StateCommitted,
    StateOffered,
    StateProposed,
    StateRevoked,
    StateUpdated,
    StoreRestored,
    encode_payload,
    envelopes,
)
from domain.log_chain import sealed_head_hash
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.bench.bulk_log import write_rows
from tests.bench.scale_log import channel_log
from tests.support.audited import (
    LOG,
    claimed,
    counted_in,
    cut_short,
    disputed,
    forged,
    of_party,
    payload_of,
    place_of,
    punished,
    recorded,
    ruled,
    settled,
    updated,
    without,
)
from tests.support.examples import examples
from tests.support.exports import audited as of_export
from tests.support.exports import exported
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
SIGNATURE, RULE = ExitCode.SIGNATURE, ExitCode.RULE
Change = Callable[[Any], dict[str, object]]


def of_segwit() -> list[Recorded]:
    """A tower's log of a channel without taproot."""
    return updated(SEGWIT)


def of_segwit_party() -> list[Recorded]:
    """A party's log of a channel without taproot."""
    return of_party(SEGWIT)


STORIES = (punished, settled, claimed, disputed, cut_short, updated, of_segwit, of_party, of_segwit_party)


@pytest.mark.parametrize("log", STORIES, ids=lambda log: log.__name__)
def test_an_honest_log_passes(log: Callable[[], list[Recorded]]) -> None:
    """Nothing is found in any story of a tower or a party, in either profile."""
    assert [] == ruled(log()) == ruled(log(), signatures=False)


@pytest.mark.parametrize(
    ("log", "least"),
    [(updated, (28, 2, 15)), (of_segwit, (28, 2, 15)), (disputed, (21, 2, 9)), (of_party, (50, 5, 50))],
)
def test_the_report_counts_what_was_computed_again(
    log: Callable[[], list[Recorded]], least: tuple[int, int, int]
) -> None:
    """Eight signatures per state, one secret per revocation, four transactions per state, and those of the close."""
    counted = counted_in(log())

    assert least <= (counted["signatures"], counted["secrets"], counted["transactions"])
    assert {"signatures": 0, "secrets": 0} == {
        name: number
        for name, number in counted_in(log(), signatures=False).items()
        if name in {"signatures", "secrets"}
    }


def flipped(name: str, at: int = 5) -> Change:
    """One bit of a field of bytes."""
    return lambda event: {name: _flip(getattr(event, name), at)}


def _flip(value: bytes, at: int) -> bytes:
    return value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]


def more(name: str, by: int = 1) -> Change:
    """A number that is higher."""
    return lambda event: {name: getattr(event, name) + by}


def said(**values: object) -> Change:
    """Fields with fixed values."""
    return lambda _: values


def signed(side: str, name: str) -> Change:
    """One bit of one of the eight signatures."""

    def change(event: Any) -> dict[str, object]:
        signatures = getattr(event, side)
        return {side: msgspec.structs.replace(signatures, **{name: _flip(getattr(signatures, name), 40)})}

    return change


def elsewhere(event: Any) -> dict[str, object]:
    """The same height in another block."""
    return {"block": BlockRef(event.block.height, bytes(32))}


def paid_elsewhere(event: Any) -> dict[str, object]:
    """A penalty to another script, with the txid that belongs to it."""
    tx = Transaction.parse(event.raw)
    output = TxOut(tx.outputs[0].value, b"\x51\x20" + bytes(31) + b"\x01")
    changed = msgspec.structs.replace(tx, outputs=(output,))
    return {"raw": changed.serialize(), "txid": changed.txid}


def unsigned(event: Any) -> dict[str, object]:
    """One bit of the first signature in a witness."""
    tx = Transaction.parse(event.raw)
    first, *rest = tx.inputs[0].witness
    # In profile 1 the witness begins with an empty item.
    witness = (_flip(first, 20), *rest) if first else (first, _flip(rest[0], 20), *rest[1:])
    return {"raw": tx.with_witness(0, witness).serialize()}


LIES: list[tuple[Callable[[], list[Recorded]], type[Payload], int, Change, ExitCode, str]] = [
    # ── opening ──
    (updated, ChannelProposed, 0, said(initial_balances=(1, 2)), RULE, "capacity"),
    (updated, ChannelRegistered, 0, flipped("client_key"), RULE, "client_key is not the owner's key"),
    (updated, ChannelRegistered, 0, said(watched=Side.A), RULE, "watches another side"),
    (updated, ChannelRegistered, 0, said(sweep_spk=b"\x51\x02\x4e\x73"), RULE, "sweep_spk"),
    (updated, ChannelRegistered, 0, said(funding_tx=None, points=(bytes(33), bytes(33))), RULE, "not on the curve"),
    (updated, FundingConfirmed, 0, flipped("outpoint"), RULE, "another outpoint"),
    (punished, FundingConfirmed, 0, elsewhere, RULE, "is not on the chain that the log followed"),
    (punished, FundingDisconnected, 0, elsewhere, RULE, "nothing of the funding stood in block"),
    (of_party, FundingBroadcast, 0, flipped("channel_id"), RULE, "another outpoint or channel"),
    # ── states ──
    *(
        (updated, StateUpdated, 2, signed(side, name), SIGNATURE, f"signature {said_as} of {side[-1].upper()}")
        for side in ("sigs_a", "sigs_b")
        for name, said_as in (
            ("state", "state"),
            ("settle_a", "settle_A"),
            ("settle_b", "settle_B"),
            ("commit_peer", "commit_peer"),
        )
    ),
    *(
        (of_segwit, StateUpdated, 1, signed(side, name), SIGNATURE, "does not verify on the rebuilt bytes")
        for side in ("sigs_a", "sigs_b")
        for name in ("state", "settle_a", "settle_b", "commit_peer")
    ),
    (updated, StateUpdated, 1, more("balance_a"), RULE, "the header says state 1"),
    (updated, StateUpdated, 1, more("sequence"), RULE, "the header says state 1"),
    (updated, StateUpdated, 1, flipped("state_data"), RULE, "state_data_hash"),
    (updated, StateUpdated, 1, said(conditions=bytes((0, 0, 1, 0, 1, 0, 0, 0, 1)) + bytes(55)), RULE, "conditions"),
    (updated, StateUpdated, 1, flipped("header", 50), SIGNATURE, "signature state of A"),
    (updated, StateUpdated, 1, flipped("own_point", 0), RULE, "commit_txid_A of the header"),
    (updated, StateUpdated, 1, flipped("revoked_secret"), SIGNATURE, "the secret of state 0"),
    (updated, StateUpdated, 1, said(next_point=None), RULE, "belong together"),
    (updated, StateUpdated, 0, more("balance_a"), RULE, "other balances than the proposal"),
    # ── closes and breaches ──
    (punished, SpendSeen, 0, unsigned, SIGNATURE, "valid signatures of both funding keys"),
    (of_segwit, SpendConfirmed, 0, unsigned, SIGNATURE, "valid signatures of both funding keys"),
    (punished, SpendSeen, 0, said(kind=SpendKind.PEER_CLOSE), RULE, "by the states of the channel it is breach of"),
    (punished, SpendSeen, 0, more("sequence"), RULE, "by the states of the channel it is breach of"),
    (punished, SpendSeen, 0, flipped("txid"), RULE, "not those of the transaction"),
    (settled, SpendConfirmed, 0, said(side=Side.A), RULE, "by the states of the channel it is peer_close of B"),
    (punished, SpendConfirmed, 0, elsewhere, RULE, "is not on the chain that the log followed"),
    (punished, SpendDisconnected, 0, elsewhere, RULE, "there is nothing to undo"),
    (punished, BreachDetected, 0, more("contest_value"), RULE, "value or script of the contest output"),
    (punished, BreachDetected, 0, flipped("contest_spk"), RULE, "value or script of the contest output"),
    (punished, BreachDetected, 0, flipped("contest"), RULE, "is not output 0"),
    (punished, BreachDetected, 1, more("deadline"), RULE, "follows from the block and the challenge period"),
    # ── penalties ──
    (updated, PenaltyPrepared, 0, unsigned, SIGNATURE, "does not verify under the revocation key"),
    (of_segwit, PenaltyPrepared, 0, unsigned, SIGNATURE, "the penalty's signature does not verify"),
    (updated, PenaltyPrepared, 0, more("fee"), RULE, "the penalty rebuilt from its fee"),
    (updated, PenaltyPrepared, 0, more("feerate_kvb"), RULE, "the feerate is recorded as"),
    (updated, PenaltyPrepared, 0, paid_elsewhere, RULE, "the declared sweep script is another transaction"),
    (updated, PenaltyPrepared, 0, flipped("txid"), RULE, "not those of the transaction that the event names"),
    (updated, PenaltyPrepared, 0, flipped("commit_txid"), RULE, "is not a known breach"),
    (updated, PenaltyPrepared, 1, more("bid_no"), RULE, "comes next, this one is number 3"),
    (updated, PenaltyPrepared, 1, said(replaces=None), RULE, "does not replace the one before"),
    (updated, PenaltyPrepared, 1, said(fee=900), RULE, "the bid fell from 1000 to 900 sat"),
    (updated, PenaltyPrepared, 1, said(rung=3), RULE, "a rung of a ladder has a number"),
    (punished, PenaltyBroadcast, 0, flipped("txid"), RULE, "whose bytes had not been stored before"),
    (punished, PenaltyConfirmed, 0, more("swept"), RULE, "the penalty swept"),
    (punished, PenaltyConfirmed, 0, elsewhere, RULE, "is not on the chain that the log followed"),
    (punished, PenaltyDisconnected, 0, elsewhere, RULE, "there is nothing to undo"),
    # ── settlements and claims ──
    (settled, SettlePrepared, 0, unsigned, SIGNATURE, "valid signatures of both parties"),
    (settled, SettlePrepared, 0, more("valid_from"), RULE, "is valid from height"),
    (settled, SettlePrepared, 0, more("fee"), RULE, "the fee of the settlement is"),
    (settled, SettlePrepared, 0, flipped("txid"), RULE, "rebuilt from the state is another transaction"),
    (settled, SettlePrepared, 0, flipped("commit_txid"), RULE, "no confirmed honest close"),
    (settled, SettleBroadcast, 0, flipped("txid"), RULE, "whose bytes had not been stored before"),
    (settled, SettleConfirmed, 0, flipped("txid"), RULE, "is not the transaction that the state names"),
    (settled, SettleConfirmed, 0, more("value"), RULE, "the contest output holds"),
    (settled, SettleConfirmed, 0, more("sequence"), RULE, "another side or state than its commitment"),
    (settled, SettleDisconnected, 0, elsewhere, RULE, "there is nothing to undo"),
    (claimed, ClaimPrepared, 0, unsigned, SIGNATURE, "the witness is not that of a claim"),
    (claimed, ClaimPrepared, 0, more("fee"), RULE, "the claim rebuilt from its condition"),
    (claimed, ClaimPrepared, 0, more("vout"), RULE, "of the settlement, not"),
    (claimed, ClaimPrepared, 1, more("lock_time"), RULE, "the claim's lock time is"),
    # ── the end ──
    (punished, SoftFinal, 0, said(depth=5), RULE, "are not enough"),
    (punished, ChannelResolved, 0, said(depth=99), RULE, "99 confirmations are not enough"),
    (punished, ChannelResolved, 0, more("depth", 900), RULE, "are more than the cursor"),
    (punished, ChannelResolved, 0, said(outcome=ResolvedAs.SETTLED), RULE, "not those that end the channel"),
    # ── disputes ──
    (disputed, ChallengeReceived, 0, flipped("proof", 450), SIGNATURE, "EVIDENCE_SIG"),
    (disputed, ChallengeReceived, 1, flipped("proof", 90), SIGNATURE, "TXID_MISMATCH"),
    (disputed, ChallengeReceived, 0, more("sequence"), RULE, "accuses another state"),
    (disputed, ChallengeAnswered, 0, flipped("counter_proof", 450), SIGNATURE, "the counter-proof is COUNTER_INVALID"),
    # ── the chain ──
    (punished, BlockConnected, 7, flipped("header"), RULE, "does not hash to it"),
    (punished, BlockConnected, 7, said(chainwork=b"\x01"), RULE, "the work up to block"),
    (punished, BlockDisconnected, 1, elsewhere, RULE, "the cursor was another block"),
    (
        punished,
        BlockDisconnected,
        1,
        lambda e: {"parent": BlockRef(e.parent.height, bytes(32))},
        RULE,
        "not its parent",
    ),
    # ── a party's own log ──
    *(
        (log, StateProposed, 2, flipped(name), SIGNATURE, "does not verify")
        for log in (of_party, of_segwit_party)
        for name in ("state_sig", "settle_a", "settle_b")
    ),
    *(
        (log, StateAccepted, 2, flipped(name), SIGNATURE, "does not verify")
        for log in (of_party, of_segwit_party)
        for name in ("state_sig", "settle_a", "settle_b", "commit_peer")
    ),
    (of_party, StateCommitted, 2, flipped("commit_peer"), SIGNATURE, "signature commit_peer"),
    (of_party, StateProposed, 2, flipped("state_hash"), RULE, "another content for state 2 than was offered"),
    (of_party, StateOffered, 2, more("balance_b"), RULE, "the header says state 2"),
    (of_party, CloseSigned, 0, flipped("signature"), SIGNATURE, "on the close does not verify"),
    (of_party, CloseSigned, 1, unsigned, SIGNATURE, "valid signatures of both funding keys"),
    (of_party, CloseProposed, 0, more("fee"), RULE, "the close rebuilt from its terms"),
]


def name_of(value: object) -> str | None:
    """Names of logs and events in test ids."""
    return getattr(value, "__name__", None) if not isinstance(value, str) else None


@pytest.mark.parametrize(("log", "kind", "number", "change", "code", "words"), LIES, ids=name_of)
def test_a_lie_that_fits_the_hash_chain_is_named(
    log: Callable[[], list[Recorded]], kind: type[Payload], number: int, change: Change, code: ExitCode, words: str
) -> None:
    """One field of one event is another one: the finding has its position, its topic and the code."""
    events = log()
    place = place_of(events, kind, number)

    found = ruled(forged(events, place, **change(events[place].envelope.payload)))

    told = [(each.code, each.topic) for each in found if each.position == place + 1 and words in each.sentence]
    assert (code, kind.TOPIC) in told, found


def test_a_spend_that_only_unspent_outputs_proved_has_no_bytes() -> None:
    """Nobody could hand over its block, so the tower never saw them; its place is still checked."""
    events = settled()
    place = place_of(events, SpendConfirmed, 0)

    assert [] == ruled(forged(events, place, raw=None))
    lied = ruled(forged(events, place, raw=None, **elsewhere(events[place].envelope.payload)))
    assert (ExitCode.RULE, place + 1) in [(finding.code, finding.position) for finding in lied]


def test_an_effect_without_its_intent_is_named() -> None:
    """The broadcast of a penalty whose bytes no event before it holds."""
    events = without(punished(), place_of(punished(), PenaltyPrepared))

    assert (RULE, PenaltyBroadcast.TOPIC) in [(each.code, each.topic) for each in ruled(events)]


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_state_is_named(number: int) -> None:
    """Numbers of states rise by one, and each names the one before."""
    events = without(updated(), place_of(updated(), StateUpdated, number))

    assert {RULE} <= {each.code for each in ruled(events)}


def test_an_event_behind_the_erasure_is_named() -> None:
    """Nothing happens in a channel whose keys are gone."""
    events = punished()
    place = place_of(events, ChannelErased)
    stream, version = events[place].envelope.stream, events[place].envelope.version
    late = Envelope(stream, version + 1, SoftFinal.TOPIC, payload_of(events, SoftFinal))

    found = ruled([*events, Recorded(len(events) + 1, late)])

    assert any("nothing may follow" in each.sentence for each in found)


def test_a_stream_that_begins_with_another_event_is_named() -> None:
    """A channel begins with its proposal."""
    events = without(updated(), place_of(updated(), ChannelProposed))
    events = without(events, place_of(events, ChannelRegistered))

    assert (RULE, 1) == (ruled(events)[0].code, ruled(events)[0].position)


def test_a_stream_whose_beginning_is_elsewhere_is_left_alone() -> None:
    """A part of a log: what came before is not there to compare with."""
    assert [] == ruled(updated()[3:])


def test_the_secret_of_a_late_revocation_is_checked() -> None:
    """A revocation by itself in the log of a party, by the counterparty and as an own number."""
    events = of_party()
    own, theirs = (
        next(
            place
            for place, each in enumerate(events)
            if isinstance(each.envelope.payload, StateRevoked) and (each.envelope.payload.secret is None) is is_own
        )
        for is_own in (True, False)
    )
    secret = payload_of(events[theirs:], StateRevoked).secret

    changed = ruled(forged(events, theirs, secret=bytes(31) + b"\x01"))
    shown = ruled(forged(events, own, secret=secret))

    assert (SIGNATURE, theirs + 1) in [(each.code, each.position) for each in changed]
    assert ["an own secret stands in the log"] == [each.sentence.split(": ")[1] for each in shown]


@given(st.integers(0, 2), st.sampled_from(("sigs_a", "sigs_b")), st.integers(0, 3), st.integers(0, 511))
@settings(max_examples=examples(60), deadline=None)
def test_any_changed_bit_of_any_signature_is_found(number: int, side: str, which: int, bit: int) -> None:
    """Whatever bit of the eight signatures of a state is turned, the event is named with exit code 31."""
    events = updated()
    place = place_of(events, StateUpdated, number)
    given_set = getattr(events[place].envelope.payload, side)
    name = given_set.__struct_fields__[which]
    turned = bytearray(getattr(given_set, name))
    turned[bit // 8] ^= 1 << bit % 8

    found = ruled(forged(events, place, **{side: msgspec.structs.replace(given_set, **{name: bytes(turned)})}))

    assert [(SIGNATURE, place + 1)] == [(each.code, each.position) for each in found]


def test_a_missing_signature_is_found_where_it_must_not_be_missing() -> None:
    """Of a state that nobody had published, and of the owner's own set."""
    events, short = updated(), cut_short()
    place, last = place_of(events, StateUpdated, 1), place_of(short, StateUpdated, 2)

    for log, at, side in ((events, place, "sigs_b"), (short, last, "sigs_a")):
        lacking = msgspec.structs.replace(getattr(log[at].envelope.payload, side), commit_peer=bytes(64))
        found = ruled(forged(log, at, **{side: lacking}))
        assert [(SIGNATURE, at + 1)] == [(each.code, each.position) for each in found]


@given(st.integers(0, 31), st.integers(0, 7), st.sampled_from((1, 2)))
@settings(max_examples=examples(30), deadline=None)
def test_any_changed_bit_of_a_secret_is_found(byte: int, bit: int, number: int) -> None:
    """A revealed secret with one other bit is not that of the announced point."""
    events = updated()
    place = place_of(events, StateUpdated, number)
    secret = bytearray(events[place].envelope.payload.revoked_secret)
    secret[byte] ^= 1 << bit

    found = ruled(forged(events, place, revoked_secret=bytes(secret)))

    assert (SIGNATURE, place + 1) in [(each.code, each.position) for each in found]


# ── the log about itself ─────────────────────────────────────────────────────────────────────────────────────


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


# ── with files and processes ─────────────────────────────────────────────────────────────────────────────────


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
