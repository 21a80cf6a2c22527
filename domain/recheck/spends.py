"""Spends of the funding output: what they are, whether they are what was signed, and what undoes them."""

from __future__ import annotations

from domain.chain import BlockRef
from domain.classifier import classify, encoded_number
from domain.contract.closing import build_cooperative_close, verify_close, verify_key_path
from domain.contract.commitment import build_commitment, contest_txout
from domain.contract.params import TAPROOT
from domain.deadlines import deadline
from domain.errors import DomainError
from domain.events import (
    BreachDetected,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    SpendSeen,
)
from domain.joint import funding_signatures, key_path_signature, read_signature
from domain.recheck.subject import Flaw, Flaws, Glance
from domain.transaction import Transaction
from domain.units import Side

PLAIN_WITNESS = {0: (4, 64), 1: (4, 0)}
"""By profile: items of the witness by script, and the size of a signature in it (0: as long as DER makes it)."""


def check_seen(glance: Glance, event: SpendSeen) -> Flaws:
    """A spend in the mempool: its bytes, its name, its signatures."""
    spend = glance.channel.spend(event.txid)
    if not glance.subject.is_party and spend is not None and spend.in_mempool and spend.kind is event.kind:
        yield Flaw("this spend was in the mempool already")
    yield from _check_spend(glance, event, event.raw)


def check_confirmed(glance: Glance, event: SpendConfirmed) -> Flaws:
    """A spend in a block: as in the mempool, and the block stands."""
    spend = glance.channel.spend(event.txid)
    raw = event.raw if event.raw is not None or spend is None else spend.raw
    if spend is not None and spend.block == event.block and spend.kind is event.kind:
        yield Flaw("this spend was confirmed in this block before")
    rival = glance.channel.confirmed_spend
    if rival is not None and rival.txid != event.txid:
        yield Flaw("another spend of the funding output is confirmed")
    yield from check_block(glance, event.block, "the spend")
    yield from _check_spend(glance, event, raw)


def check_block(glance: Glance, block: BlockRef, what: str) -> Flaws:
    """A block that a fact stands in must be one that the cursor stands on."""
    if glance.chain.contradicts(block):
        yield Flaw(f"block {block.height} of {what} is not on the chain that the log followed")


def check_undone(glance: Glance, block: BlockRef, what: str, *, stood: bool) -> Flaws:
    """A fact is undone only if it stood in this block, and the block is gone."""
    if not stood:
        yield Flaw(f"{what} did not stand in block {block.height}: there is nothing to undo")
    if glance.chain.has(block):
        yield Flaw(f"{what} was undone although block {block.height} is still connected")


def check_spend_undone(glance: Glance, event: SpendDisconnected) -> Flaws:
    """The spend was confirmed in this block."""
    spend = glance.channel.spend(event.txid)
    stood = spend is not None and spend.block == event.block
    yield from check_undone(glance, event.block, "the spend", stood=stood)


def check_replaced(glance: Glance, event: SpendReplaced) -> Flaws:
    """Only what was in the mempool can leave it."""
    spend = glance.channel.spend(event.txid)
    if spend is None or not spend.in_mempool:
        yield Flaw("a spend left the mempool that was not in it")


def _check_spend(glance: Glance, event: SpendSeen | SpendConfirmed, raw: bytes | None) -> Flaws:
    if raw is None:  # a spend that unspent outputs proved: nobody could hand the tower its block
        return
    tx, params = Transaction.parse(raw), glance.channel.params
    glance.tally.transactions += 1
    if tx.txid != event.txid:
        yield Flaw("the bytes are not those of the transaction that the event names")
        return
    if all(txin.outpoint != params.funding_outpoint for txin in tx.inputs):
        yield Flaw("the transaction does not spend the funding output")
        return
    if not glance.subject.is_party:
        yield from _check_name(glance, event, tx)
    if glance.signatures:
        yield from _check_witness(glance, tx)


def _check_name(glance: Glance, event: SpendSeen | SpendConfirmed, tx: Transaction) -> Flaws:
    """Kind, side and number follow from the rebuilt commitments of both sides."""
    own = glance.subject.own_commit(encoded_number(glance.channel.params, tx))
    found = classify(glance.channel, tx, own)
    if (found.kind, found.side, found.sequence) != (event.kind, event.side, event.sequence):
        yield Flaw(
            f"the spend is recorded as {_named(event.kind, event.side, event.sequence)}, but by the states of the "
            f"channel it is {_named(found.kind, found.side, found.sequence)}"
        )


def _named(kind: SpendKind, side: Side | None, sequence: int | None) -> str:
    of = "" if side is None else f" of {side.name}"
    return f"{kind.name.lower()}{of}" + ("" if sequence is None else f" with state {sequence}")


def _check_witness(glance: Glance, tx: Transaction) -> Flaws:
    """Both signatures by script, or the joined one.

    Witnesses of other forms (an annex, other hash types) were judged by the nodes that took them into a block.
    """
    params, witness = glance.channel.params, tx.inputs[0].witness
    if len(tx.inputs) != 1 or not witness:
        return
    items, size = PLAIN_WITNESS[params.profile]
    if params.profile == TAPROOT and len(witness) == 1 and len(witness[0]) == size:
        glance.tally.signatures += 1
        if key_path_signature(params, tx) is None:
            yield Flaw("the joined signature of the spend does not verify", is_forged=True)
        return
    signed = [item for item in witness[:-1] if read_signature(item) is not None]
    if len(witness) != items or (size and len(signed) != 2):
        return
    glance.tally.signatures += 2
    if funding_signatures(params, tx) is None:
        yield Flaw("the spend does not carry valid signatures of both funding keys", is_forged=True)


def check_breach(glance: Glance, event: BreachDetected) -> Flaws:
    """A stale commitment whose secret is known, its contest output rebuilt, and the deadline `h_c + T - 1`."""
    channel, params = glance.channel, glance.channel.params
    spend = channel.spend(event.txid)
    if spend is None:
        yield Flaw("a breach of a transaction that was not seen before")
        return
    if event.contest != spend.contest:
        yield Flaw("the contest output is not output 0 of the commitment")
    if event.side is not channel.counterparty:
        yield Flaw("a breach is a spend by the counterparty")
        return
    yield from _check_stale(glance, event)
    key = channel.revocation_key(event.side, event.sequence)
    raw = spend.raw
    if key is not None:
        output = contest_txout(params, key)
        if (event.contest_value, event.contest_spk) != (output.value, output.spk):
            yield Flaw("value or script of the contest output are not those of the rebuilt commitment")
    elif raw is not None:
        output = Transaction.parse(raw).outputs[0]
        if (event.contest_value, event.contest_spk) != (output.value, output.spk):
            yield Flaw("value or script of the contest output are not those of the commitment")
    if spend.block != event.block:
        yield Flaw("the breach stands in another block than its commitment")
    wanted = None if event.block is None else deadline(event.block.height, params.challenge_period)
    if event.deadline != wanted:
        yield Flaw(f"the deadline is {event.deadline}, but {wanted} follows from the block and the challenge period")


def _check_stale(glance: Glance, event: BreachDetected) -> Flaws:
    """The revealed secret gives exactly this commitment, or a proof made it punishable."""
    channel = glance.channel
    if channel.challenge_of(event.txid) is not None:
        return
    glance.tally.transactions += 1
    point = channel.point(channel.counterparty, event.sequence) if event.sequence <= channel.highest_revoked else None
    if point is None:
        yield Flaw(f"state {event.sequence} was not revoked")
    elif build_commitment(channel.params, event.side, event.sequence, point).txid != event.txid:
        yield Flaw(f"the rebuilt commitment of state {event.sequence} is another transaction")


def check_published(glance: Glance, event: CommitmentPublished) -> Flaws:
    """An own close is one of a stored state that was not revoked."""
    released = max(glance.channel.own_released, glance.channel.highest_revoked)
    own = glance.subject.own_commit(event.sequence) or glance.subject.own_commit_in_flight(event.sequence)
    if own is None:
        yield Flaw(f"state {event.sequence} is not stored")
    elif own != event.txid:
        yield Flaw(f"the transaction is not the own commitment of state {event.sequence}")
    if event.sequence <= (glance.channel.own_released if glance.subject.is_party else released):
        yield Flaw(f"state {event.sequence} had been revoked when its commitment was published")


def check_close_proposed(glance: Glance, event: CloseProposed) -> Flaws:
    """The close rebuilt from its terms."""
    glance.tally.transactions += 1
    if _close(glance, event).txid != event.txid:
        yield Flaw("the close rebuilt from its terms is another transaction")
    earlier = (c.final_balances for c in glance.channel.closings if c.final_balances is not None)
    if any(balances != event.final_balances for balances in earlier):
        yield Flaw("another close with other final balances was signed before")


def _close(glance: Glance, terms: CloseProposed) -> Transaction:
    return build_cooperative_close(glance.channel.params, terms.final_balances, terms.by, terms.fee, terms.lock_time)


def check_close_signed(glance: Glance, event: CloseSigned) -> Flaws:
    """A signature of a close that was proposed: by script, or the joined one; the complete transaction carries both."""
    params, terms = glance.channel.params, glance.subject.closes.get(event.txid)
    if terms is None:
        yield Flaw("a close was signed that had not been proposed")
        return
    tx = _close(glance, terms)
    if tx.txid != event.txid:
        return  # named at the proposal
    if glance.signatures:
        glance.tally.signatures += 1
        joined = params.profile == TAPROOT and verify_key_path(params, tx, event.signature)
        if not joined and not verify_close(params, tx, event.by, event.signature):
            yield Flaw(f"the signature of {event.by.name} on the close does not verify", is_forged=True)
    if event.raw is None:
        return
    try:
        complete = Transaction.parse(event.raw)
    except DomainError as error:
        yield Flaw(f"the complete close: {error}")
        return
    if complete.txid != event.txid:
        yield Flaw("the complete close is another transaction")
    elif glance.signatures:
        yield from _check_witness(glance, complete)
