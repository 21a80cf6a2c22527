"""Settlements, conditional outputs, alerts and the end of a channel."""

from __future__ import annotations

from domain.channel import StateRecord, final_transaction
from domain.claiming import WantedClaim, build_claim, claim_script
from domain.conditional import ConditionalOutput
from domain.contract.hashes import sha256
from domain.deadlines import depth, is_final, is_soft_final, settle_valid_from
from domain.events import (
    AlertCleared,
    AlertRaised,
    ChannelResolved,
    ClaimBroadcast,
    ClaimConfirmed,
    ClaimDisconnected,
    ClaimPath,
    ClaimPrepared,
    PreimageLearned,
    SettleBroadcast,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SoftFinal,
    SpendKind,
)
from domain.inspection.claims import find_claim, inspect_claim
from domain.joint import settle_signatures
from domain.recheck.spends import check_block, check_undone
from domain.recheck.subject import Flaw, Flaws, Glance
from domain.settling import ready_settlement
from domain.transaction import Transaction


def check_settle_prepared(glance: Glance, event: SettlePrepared) -> Flaws:
    """The settlement of a confirmed honest close, rebuilt from the stored state and its signatures, byte for byte."""
    channel = glance.channel
    close = channel.spend(event.commit_txid)
    plan = None if close is None else ready_settlement(channel, close)
    glance.tally.transactions += 1
    if plan is None:
        yield Flaw("a settlement was prepared for a transaction that is no confirmed honest close of a stored state")
        return
    if (event.side, event.sequence) != (plan.side, plan.sequence):
        yield Flaw(f"the close is one of {plan.side.name} with state {plan.sequence}, the settlement of another")
    if event.valid_from != plan.valid_from:
        yield Flaw(f"the settlement is valid from height {plan.valid_from}, not {event.valid_from}")
    if event.fee != plan.fee:
        yield Flaw(f"the fee of the settlement is {plan.fee} sat, not {event.fee}")
    tx = Transaction.parse(event.raw)
    if not event.txid == tx.txid == plan.tx.txid:
        yield Flaw("the settlement rebuilt from the state is another transaction")
    elif event.raw != plan.tx.serialize() and glance.signatures:
        glance.tally.signatures += 2
        key = channel.revocation_key(plan.side, plan.sequence)
        if key is None or settle_signatures(channel.params, tx, key) is None:
            yield Flaw("the settlement does not carry valid signatures of both parties", is_forged=True)


def check_settle_sent(glance: Glance, event: SettleBroadcast) -> Flaws:
    """The bytes had been stored before."""
    known = next((each for each in glance.channel.settlements if each.txid == event.txid), None)
    if known is None:
        yield Flaw("a settlement was sent whose bytes had not been stored before")
    elif known.accepted:
        yield Flaw("the broadcast of this settlement was recorded before")


def check_settle_confirmed(glance: Glance, event: SettleConfirmed) -> Flaws:
    """The split of a confirmed commitment; `revoked` follows from what the commitment was."""
    channel = glance.channel
    close = channel.spend(event.commit_txid)
    if close is None or close.block is None:
        yield Flaw("a settlement was confirmed for a commitment that is in no block")
        return
    if (close.side is not None and close.side is not event.side) or (close.sequence or 0) != event.sequence:
        yield Flaw("the settlement names another side or state than its commitment has")
    if close.kind is SpendKind.BREACH and not event.revoked:
        yield Flaw("a settlement of a revoked state is recorded as an honest one")
    if event.value != channel.params.contest_value:
        yield Flaw(f"the contest output holds {channel.params.contest_value} sat, not {event.value}")
    earlier = channel.contest_spend(event.commit_txid)
    if earlier is not None and (earlier.txid, earlier.revoked) != (event.txid, not event.revoked):
        yield Flaw("the contest output was spent before")
    yield from check_block(glance, event.block, "the settlement")
    record = channel.state(event.sequence)
    if record is None or close.side is None or event.revoked:
        return
    is_agreed = record.read_header().settle_txid(close.side) == event.txid
    if not is_agreed and not channel.params.has_rescue_leaf:
        yield Flaw("the settlement is not the transaction that the state names")
    valid_from = settle_valid_from(close.block.height, channel.params.challenge_period)
    if is_agreed and event.block.height < valid_from:
        yield Flaw(f"the settlement stands at height {event.block.height}, before it was valid at {valid_from}")


def check_settle_undone(glance: Glance, event: SettleDisconnected) -> Flaws:
    """The settlement was confirmed in this block."""
    spends = glance.channel.contest_spends
    stood = any((each.txid, each.block, each.is_penalty) == (event.txid, event.block, False) for each in spends)
    yield from check_undone(glance, event.block, "the settlement", stood=stood)


def check_preimage(_glance: Glance, event: PreimageLearned) -> Flaws:
    """The preimage opens its hash."""
    if sha256(event.preimage) != event.payment_hash:
        yield Flaw("the preimage does not hash to the payment hash")


def check_claim_prepared(glance: Glance, event: ClaimPrepared) -> Flaws:
    """The claim rebuilt from condition, path and fee; its signature by the HTLC key."""
    channel = glance.channel
    tx = Transaction.parse(event.raw)
    glance.tally.transactions += 1
    if tx.txid != event.txid:
        yield Flaw("the bytes of the claim are not those of the transaction that the event names")
    output = _claimed_output(glance, event)
    if output is None:
        return
    if output.vout != event.vout:
        yield Flaw(f"the condition is output {output.vout} of the settlement, not {event.vout}")
    wanted = WantedClaim(output, ClaimPath(event.path), None)
    rebuilt = build_claim(channel.params, wanted, event.fee, claim_script(channel))
    if rebuilt.txid != event.txid:
        yield Flaw("the claim rebuilt from its condition, path and fee is another transaction")
    if tx.lock_time != event.lock_time:
        yield Flaw(f"the claim's lock time is {tx.lock_time}, not {event.lock_time}")
    last = channel.last_claim(event.settle_txid, output.condition.key)
    if last is not None and event.fee < last.fee:
        yield Flaw(f"the fee of the claim fell from {last.fee} to {event.fee} sat")
    if glance.signatures and rebuilt.txid == event.txid:
        yield from _check_claim_signature(glance, tx)


def _check_claim_signature(glance: Glance, tx: Transaction) -> Flaws:
    claimed = find_claim(glance.channel, tx)
    if claimed is None:
        return
    glance.tally.signatures += 1
    found = inspect_claim(glance.channel, tx, claimed, tx.lock_time).findings
    for finding in found:
        if finding.name == "witness" and not finding.ok:
            yield Flaw(f"the claim: {finding.detail}", is_forged=True)


def _claimed_output(glance: Glance, event: ClaimPrepared) -> ConditionalOutput | None:
    """The conditional output, if the state that the settlement belongs to is one of the newest two."""
    key = (event.condition_type, event.condition_id)
    for record in glance.channel.states:
        condition = next((each for each in record.read_conditions() if each.key == key and each.is_htlc), None)
        if condition is None or event.settle_txid not in _settlements(record):
            continue
        vouts = glance.subject.vouts(record)
        return ConditionalOutput(condition, event.settle_txid, vouts[key]) if key in vouts else None
    return None


def _settlements(record: StateRecord) -> tuple[bytes, bytes]:
    header = record.read_header()
    return header.settle_txid_a, header.settle_txid_b


def check_claim_sent(glance: Glance, event: ClaimBroadcast) -> Flaws:
    """The bytes had been stored before."""
    if all(claim.txid != event.txid for claim in glance.channel.claims):
        yield Flaw("a claim was sent whose bytes had not been stored before")


def check_claim_confirmed(glance: Glance, event: ClaimConfirmed) -> Flaws:
    """One end per conditional output, in a block that stands."""
    key = (event.condition_type, event.condition_id)
    if glance.channel.claim_end(event.settle_txid, key) is not None:
        yield Flaw("this conditional output was taken before")
    yield from check_block(glance, event.block, "the claim")


def check_claim_undone(glance: Glance, event: ClaimDisconnected) -> Flaws:
    """The claim was confirmed in this block."""
    stood = any((each.txid, each.block) == (event.txid, event.block) for each in glance.channel.claim_ends)
    yield from check_undone(glance, event.block, "the claim", stood=stood)


def check_soft_final(glance: Glance, event: SoftFinal) -> Flaws:
    """The final transaction is 6 deep."""
    end = final_transaction(glance.channel)
    if end is None or end[:2] != (event.txid, event.block):
        yield Flaw("another transaction than the one announced ends the channel")
    yield from _check_depth(glance, event, is_enough=is_soft_final(event.block.height, _tip(event)))


def check_resolved(glance: Glance, event: ChannelResolved) -> Flaws:
    """The transaction that ends the channel is 100 deep, and the outcome is what it brought."""
    if glance.channel.resolved is not None:
        yield Flaw("the channel was resolved before")
    end = final_transaction(glance.channel)
    if end != (event.txid, event.block, event.outcome):
        yield Flaw("transaction, block or outcome are not those that end the channel")
    yield from _check_depth(glance, event, is_enough=is_final(event.block.height, _tip(event)))


def _tip(event: SoftFinal | ChannelResolved) -> int:
    return event.block.height + event.depth - 1


def _check_depth(glance: Glance, event: SoftFinal | ChannelResolved, *, is_enough: bool) -> Flaws:
    if not is_enough:
        yield Flaw(f"{event.depth} confirmations are not enough for this")
    tip = glance.chain.tip
    if tip is not None and event.depth > depth(event.block.height, tip.height):
        yield Flaw(f"{event.depth} confirmations are more than the cursor at height {tip.height} gives")


def check_alert(glance: Glance, event: AlertRaised | AlertCleared) -> Flaws:
    """Alerts stand on the change of a condition only."""
    if glance.subject.is_party or (event.kind in glance.channel.alerts) is isinstance(event, AlertCleared):
        return
    yield Flaw("an alert was raised that stood already" if isinstance(event, AlertRaised) else "no such alert stood")
