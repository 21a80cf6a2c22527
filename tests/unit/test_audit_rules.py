"""The rules of the audit: honest logs pass, and every lie that fits the hash chain is named with the right code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from domain.chain import BlockRef
from domain.contract.params import SEGWIT
from domain.events import (
    BlockConnected,
    BlockDisconnected,
    BreachDetected,
    ChallengeAnswered,
    ChallengeReceived,
    ChannelProposed,
    ChannelRegistered,
    ChannelResolved,
    ClaimPrepared,
    CloseProposed,
    CloseSigned,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    Recorded,
    ResolvedAs,
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
    StateUpdated,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.support.audited import (
    claimed,
    counted_in,
    cut_short,
    disputed,
    forged,
    of_party,
    place_of,
    punished,
    ruled,
    settled,
    updated,
)
from tests.support.lies import RULE, SIGNATURE, Change, elsewhere, flip, paid_elsewhere, signed
from watchtower.audit.findings import ExitCode

pytestmark = pytest.mark.slow


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
    return lambda event: {name: flip(getattr(event, name), at)}


def more(name: str, by: int = 1) -> Change:
    """A number that is higher."""
    return lambda event: {name: getattr(event, name) + by}


def said(**values: object) -> Change:
    """Fields with fixed values."""
    return lambda _: values


def unsigned(event: Any) -> dict[str, object]:
    """One bit of the first signature in a witness."""
    tx = Transaction.parse(event.raw)
    first, *rest = tx.inputs[0].witness
    # In profile 1 the witness begins with an empty item.
    witness = (flip(first, 20), *rest) if first else (first, flip(rest[0], 20), *rest[1:])
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
