"""Show a proof against a published commitment, and answer one (protocol 6.2 to 6.4)."""

from __future__ import annotations

import msgspec

from domain.channel import Challenge, Channel
from domain.contract.proofs import CounterOutcome, ProofHead
from domain.deadlines import deadline
from domain.disputing import MEANING, ShowProof, decide_answer, decide_challenge
from domain.errors import UnknownChannel
from domain.events import ChallengeVerdict, Payload
from domain.transaction import Transaction
from watchtower.channels.context import Context, store_decision
from watchtower.channels.info import side_name
from watchtower.wire.disputes import ChallengeBody, ChallengeRequest, ResponseBody, ResponseRequest
from watchtower.wire.hexes import Hex32, TxidHex

ENFORCEABLE = "the proof can be enforced: the penalty takes the contest output and is raised until it is in a block"
EVIDENCE_ONLY = (
    "the proof shows that a newer state exists, which alone punishes nobody: it is stored, and nothing was sent; "
    "the revocation secret of the published state is needed"
)


class Challenged(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if exactly this proof was shown before."""

    answer: ChallengeBody
    duplicate: bool


class Answered(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if exactly this counter-proof was weighed before."""

    answer: ResponseBody
    duplicate: bool


def challenge(context: Context, stream: str, request: ChallengeRequest) -> Challenged:
    """The proof, and the breach that it reveals, are durable when it returns; the responder does the rest.

    Raises `ChallengeRefused` with the reason, and `NodeError` if the log does not know the transaction and the node
    cannot be asked.
    """
    proof = bytes(request.proof)
    published = _published(context, context.channels.load(stream), proof)
    command = ShowProof(
        now=context.clock.wall_microseconds(),
        sequence=request.sequence,
        proof=proof,
        published=published,
        tip_height=context.tip_height(),
    )

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        return decide_challenge(channel, command)

    stored = store_decision(context, stream, decide)
    channel = context.channels.load(stream)
    shown = next(each for each in reversed(channel.challenges) if each.proof == proof)
    return Challenged(_challenge_body(channel, shown, context.tip_height()), duplicate=not stored)


def _published(context: Context, channel: Channel, proof: bytes) -> Transaction | None:
    """The transaction that the proof names, if it spends the funding output now."""
    named = ProofHead.read(proof).published_txid
    known = channel.present_spend
    if known is not None and known.txid == named and known.raw is not None:
        return Transaction.parse(known.raw)
    if known is not None and known.block is not None:
        return None
    outpoint = channel.params.funding_outpoint
    if context.node.mempool_spenders([outpoint]).get(outpoint) != named:
        return None
    raw = context.node.mempool_transaction(named)
    return None if raw is None else Transaction.parse(raw)


def _challenge_body(channel: Channel, shown: Challenge, tip: int) -> ChallengeBody:
    spend = channel.spend(shown.published_txid)
    bids = channel.bids_on(shown.published_txid)
    block = None if spend is None else spend.block
    enforceable = shown.verdict is ChallengeVerdict.VALID_ENFORCEABLE
    return ChallengeBody(
        channel_id=Hex32(channel.params.channel_id),
        sequence=shown.sequence,
        party=side_name(shown.accused),
        verdict="VALID_ENFORCEABLE" if enforceable else "VALID_EVIDENCE_ONLY",
        published_txid=TxidHex(shown.published_txid),
        height=tip,
        penalty_txid=TxidHex(bids[-1].txid) if bids else None,
        penalty_fee=bids[-1].fee if bids else None,
        deadline=None if block is None else deadline(block.height, channel.params.challenge_period),
        message=ENFORCEABLE if enforceable else EVIDENCE_ONLY,
    )


def respond_to_challenge(context: Context, stream: str, request: ResponseRequest) -> Answered:
    """Weigh a counter-proof against the newest challenge; the outcome is durable when it returns.

    No transaction answers a challenge in this protocol: the outcome says whether to wait or to concede.
    """
    now, tip = context.clock.wall_microseconds(), context.tip_height()
    weighed: list[tuple[CounterOutcome, Challenge]] = []

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        events, outcome, against = decide_answer(channel, bytes(request.counter_proof), tip, now)
        weighed.append((outcome, against))
        return events

    stored = store_decision(context, stream, decide)
    outcome, against = weighed[-1]
    answer = ResponseBody(
        channel_id=Hex32(context.channels.load(stream).params.channel_id),
        outcome=outcome.value,
        published_txid=TxidHex(against.published_txid),
        sequence=against.sequence,
        message=MEANING[outcome],
    )
    return Answered(answer, duplicate=not stored)
