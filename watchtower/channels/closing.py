"""The owner closes: with the counterparty's agreement, or alone (protocol 3.2, 3.7, 6.2).

The intent is durable before the node hears of it. The answer of the node is told; whatever it is, the pass thread sends
the close again until it is in a block. An own commitment is kept in memory only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from domain.channel import Channel
from domain.deadlines import settle_valid_from
from domain.errors import UnknownChannel
from domain.events import BroadcastOutcome, Payload
from domain.publishing import commitment_published, decide_close, own_commitment
from domain.transaction import Transaction
from watchtower.channels.context import Context, store_decision
from watchtower.ports import Answer, NodeError
from watchtower.wire.disputes import BroadcastName, ClosureBody, CooperativeCloseRequest, UnilateralCloseRequest
from watchtower.wire.hexes import Hex32, TransactionHex, TxidHex

ANCHOR_OUTPUT = 1

MESSAGES: dict[BroadcastName, str] = {
    "IN_MEMPOOL": "the node has it in its mempool",
    "CONFIRMED": "it is in a block",
    "FEE_CHILD_NEEDED": (
        "the node wants a higher fee than the fixed one, or its mempool holds another spend of the funding output, "
        "such as a cooperative close, that pays more: wait for that one, or send the transaction as a package with a "
        "child that spends the anchor output and pays more"
    ),
    "FEE_TOO_LOW": "the node wants a higher fee: agree on the same balances with a higher fee and close again",
    "CONFLICT": "the funding output is not there for the node: it is spent by another transaction, or not yet known",
    "NOT_ACCEPTED": "the node did not take it; it is sent again",
    "PENDING": "the node could not be asked; it is sent when the node answers again",
}

_OUTCOMES: dict[BroadcastOutcome, BroadcastName] = {
    BroadcastOutcome.ACCEPTED: "IN_MEMPOOL",
    BroadcastOutcome.ALREADY_KNOWN: "IN_MEMPOOL",
    BroadcastOutcome.INSUFFICIENT_FEE: "FEE_TOO_LOW",
    BroadcastOutcome.BELOW_MINIMUM: "FEE_TOO_LOW",
    BroadcastOutcome.PARENT_MISSING: "CONFLICT",
    BroadcastOutcome.MISSING_INPUTS: "CONFLICT",
}


class Closed(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if exactly this close was asked for before."""

    answer: ClosureBody
    duplicate: bool


def close_unilateral(context: Context, stream: str, request: UnilateralCloseRequest) -> Closed:
    """Publish the owner's commitment of a state. Both signatures are checked; the own one is stored nowhere.

    Raises `SelfBreach`, `SequenceGap`, `ChannelNotReady`, `ChannelClosed`, `InvalidSignature`.
    """
    signatures = (bytes(request.signatures[0]), bytes(request.signatures[1]))
    made: list[Transaction] = []

    def decide(channel: Channel) -> list[Payload]:
        made.append(own_commitment(channel, request.sequence, signatures))
        return commitment_published(channel, made[-1], request.sequence, context.clock.wall_microseconds())

    return _close(context, stream, decide, made, "UNILATERAL", request.sequence)


def close_cooperative(context: Context, stream: str, request: CooperativeCloseRequest) -> Closed:
    """Publish a close that both parties signed. Raises the refusals of `decide_close`."""
    tx = Transaction.parse(bytes(request.transaction))

    def decide(channel: Channel) -> list[Payload]:
        return decide_close(channel, tx, request.final_balances, context.clock.wall_microseconds())

    return _close(context, stream, decide, [tx], "COOPERATIVE", None)


def _close(
    context: Context,
    stream: str,
    decide: Callable[[Channel], list[Payload]],
    made: list[Transaction],
    kind: Literal["COOPERATIVE", "UNILATERAL"],
    sequence: int | None,
) -> Closed:
    def decide_known(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        return decide(channel)

    stored = store_decision(context, stream, decide_known)
    raw, channel = made[-1].serialize(), context.channels.load(stream)
    spend = channel.confirmed_spend
    if spend is not None and spend.txid == made[-1].txid:
        outcome: BroadcastName = "CONFIRMED"
    else:
        outcome = _send(context, stream, raw, kind)
    params, block = channel.params, None if spend is None else spend.block
    waits = sequence is not None and block is not None
    answer = ClosureBody(
        channel_id=Hex32(params.channel_id),
        kind=kind,
        txid=TxidHex(made[-1].txid),
        sequence=sequence,
        outcome=outcome,
        message=MESSAGES[outcome],
        transaction=TransactionHex(raw),
        fee_output=ANCHOR_OUTPUT if kind == "UNILATERAL" else None,
        settle_height=settle_valid_from(block.height, params.challenge_period) if waits and block else None,
    )
    return Closed(answer, duplicate=not stored)


def _send(context: Context, stream: str, raw: bytes, kind: str) -> BroadcastName:
    if kind == "UNILATERAL":
        context.outbox.keep(stream, raw)
    try:
        answer: Answer = context.node.broadcast(raw)
    except NodeError:
        return "PENDING"
    outcome = _OUTCOMES.get(answer.outcome, "NOT_ACCEPTED")
    if answer.in_mempool:
        context.announce(stream)
    return "FEE_CHILD_NEEDED" if outcome == "FEE_TOO_LOW" and kind == "UNILATERAL" else outcome
