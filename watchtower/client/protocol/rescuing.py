"""Joint settlement before the challenge period ends, between the parties (flag rescue_leaf, protocol 3.2).

    propose_rescue   ── rescue_propose ──▶ on_rescue_propose     the transaction is complete here
    on_rescue_accept ◀── rescue_accept ──                        and here

No transaction enforces the three rules, so they stand here: the commitment is in a block, it is not revoked, and
at most one set of amounts is ever signed. The last one is why the signature is stored before it is sent.
"""

from __future__ import annotations

from domain.contract import keys
from domain.contract.rescue import RESCUE_WEIGHT, build_rescue, complete_rescue, rescue_sighash
from domain.contract.scripts import dust_limit
from domain.contract.state import StateTransactions
from domain.errors import ChannelNotReady, Equivocation, InvalidSignature, InvalidState, SelfBreach
from domain.events import RescueSigned
from domain.transaction import TxOut
from domain.units import Side
from watchtower.client.protocol.channel import Content
from watchtower.client.protocol.messages import RescueAccept, RescuePropose
from watchtower.client.protocol.resend import name_of
from watchtower.client.protocol.seat import NOTHING, Seat, Step
from watchtower.wire.hexes import Hex64, TxidHex

LEAST_FEE = -(-RESCUE_WEIGHT // 4)
"""One satoshi per virtual byte: below it no node relays the transaction."""


def propose_rescue(seat: Seat, amounts: tuple[int, int]) -> Step:
    """Sign a split of the contest output into `amounts` of A and B (satoshi); what is left of it is the fee."""
    plan = _Plan.of(seat, amounts)
    known = seat.channel.rescue
    signature = known.signature(seat.own) if known is not None else None
    events: tuple[RescueSigned, ...] = ()
    if signature is None:
        signature = plan.sign(seat)
        events = (plan.event(seat, seat.own, signature, None),)
    message = RescuePropose(
        channel_id=name_of(seat), commit_txid=TxidHex(plan.commit_txid), amounts=amounts, signature=Hex64(signature)
    )
    return Step(events, (message,))


def on_rescue_propose(seat: Seat, message: RescuePropose) -> Step:
    """Check the peer's split, sign it and answer; the transaction is complete here."""
    plan = _Plan.of(seat, message.amounts)
    if plan.commit_txid != bytes(message.commit_txid):
        raise ChannelNotReady("the peer means another commitment than the one in the block that is known here")
    plan.verify(seat, message.signature)
    known = seat.channel.rescue
    own = known.signature(seat.own) if known is not None else None
    if own is None:
        _require_fair(seat, plan)
        own = plan.sign(seat)
    answer = RescueAccept(channel_id=name_of(seat), signature=Hex64(own))
    if known is not None and known.raw is not None:
        return Step(messages=(answer,))
    complete = plan.complete(seat, own, message.signature)
    events = (
        plan.event(seat, seat.peer, message.signature, None),
        plan.event(seat, seat.own, own, complete),
    )
    return Step(events, (answer,))


def on_rescue_accept(seat: Seat, message: RescueAccept) -> Step:
    """The peer signed too: store the complete transaction."""
    known = seat.channel.rescue
    own = known.signature(seat.own) if known is not None else None
    if known is None or own is None:
        raise ChannelNotReady("this side has proposed no joint settlement")
    if known.raw is not None:
        return NOTHING
    plan = _Plan.of(seat, known.amounts)
    plan.verify(seat, message.signature)
    complete = plan.complete(seat, own, message.signature)
    return Step((plan.event(seat, seat.peer, message.signature, complete),))


class _Plan:
    """A joint settlement that the rules allow: of which commitment, and the transaction."""

    def __init__(self, seat: Seat, content: Content, side: Side, amounts: tuple[int, int]) -> None:
        built = seat.transactions(content)
        self.amounts = amounts
        self.content = content
        self.side = side
        self.built: StateTransactions = built
        self.commit_txid = built.commits[side].txid
        self.key = built.revocation_keys[side]
        self.tx = build_rescue(seat.channel.params, self.commit_txid, _outputs(seat, amounts))

    @classmethod
    def of(cls, seat: Seat, amounts: tuple[int, int]) -> _Plan:
        """Raise unless the commitment is confirmed, not revoked, and no other amounts were signed."""
        channel = seat.channel
        if channel.frozen is not None:
            raise ChannelNotReady("the channel is frozen; whether the commitment is revoked is not known here")
        known = channel.rescue
        if known is not None and known.amounts != amounts:
            raise Equivocation(
                f"a joint settlement of {known.amounts[0]} and {known.amounts[1]} sat was signed; there is only one"
            )
        plan = cls(seat, *_confirmed(seat), amounts)
        if known is not None and known.commit_txid != plan.commit_txid:
            raise Equivocation("a joint settlement of another commitment was signed; there is only one")
        fee = channel.params.contest_value - sum(output.value for output in plan.tx.outputs)
        if fee < LEAST_FEE:
            raise InvalidState(f"a joint settlement leaves at least {LEAST_FEE} sat for the fee, got {fee} sat")
        return plan

    def sign(self, seat: Seat) -> bytes:
        """The own signature by the rescue leaf."""
        message = rescue_sighash(seat.channel.params, self.tx, self.key)
        return keys.sign_schnorr(seat.secrets.settle, message, seat.entropy())

    def verify(self, seat: Seat, signature: bytes) -> None:
        """Raise `InvalidSignature` unless this is the peer's."""
        message = rescue_sighash(seat.channel.params, self.tx, self.key)
        if not keys.verify_schnorr(seat.channel.params.keys(seat.peer).settle, message, signature):
            raise InvalidSignature("the peer's signature on the joint settlement does not verify; nothing was stored")

    def complete(self, seat: Seat, own: bytes, theirs: bytes) -> bytes:
        """The transaction with both signatures."""
        pair = (own, theirs) if seat.own is Side.A else (theirs, own)
        return complete_rescue(seat.channel.params, self.tx, self.key, *pair).serialize()

    def event(self, seat: Seat, by: Side, signature: bytes, raw: bytes | None) -> RescueSigned:
        """What is stored before anything is sent."""
        return RescueSigned(
            recorded_at=seat.now,
            commit_txid=self.commit_txid,
            side=self.side,
            sequence=self.content.seq,
            amounts=self.amounts,
            by=by,
            signature=bytes(signature),
            raw=raw,
        )


def _confirmed(seat: Seat) -> tuple[Content, Side]:
    """State and side of the commitment in a block, if it is one that this side knows to be not revoked."""
    channel = seat.channel
    if channel.confirmed is None:
        raise ChannelNotReady("no commitment is in a block yet; a joint settlement is signed only after that")
    txid = channel.confirmed[0]
    contents = [channel.state.content] if channel.state is not None else []
    if channel.pending is not None and channel.pending.acceptance is not None:
        contents.append(channel.pending.content)
    for content in contents:
        for side in Side:
            if content.read_header().commit_txid(side) == txid:
                _require_valid(seat, content.seq, side)
                return content, side
    raise SelfBreach("the confirmed transaction is not a commitment of the newest state; nothing is signed for it")


def _require_valid(seat: Seat, sequence: int, side: Side) -> None:
    revoked = seat.channel.own_released if side is seat.own else seat.channel.peer_revoked
    if sequence <= revoked:
        raise SelfBreach(f"the commitment of state {sequence} is revoked; nothing is signed for it")


def _outputs(seat: Seat, amounts: tuple[int, int]) -> list[TxOut]:
    """Payouts of A and B; an amount of 0 has no output."""
    params = seat.channel.params
    outputs = [TxOut(amounts[side], params.keys(side).payout) for side in Side if amounts[side]]
    for output in outputs:
        if output.value < dust_limit(output.spk):
            raise InvalidState(f"an amount of {output.value} sat is dust; give it to the other side or to the fee")
    return outputs


def _require_fair(seat: Seat, plan: _Plan) -> None:
    """The peer's split gives this side what the settlement would give it, unless the owner approved of it."""
    if seat.approved_close == plan.amounts:
        return
    if plan.content.conditions:
        raise InvalidState("conditions are pending; the owner must approve how they are split")
    payout = seat.channel.params.keys(seat.own).payout
    due = sum(output.value for output in plan.built.settlements[plan.side].outputs if output.spk == payout)
    if plan.amounts[seat.own] < due:
        raise InvalidState(f"this side gets {plan.amounts[seat.own]} sat, the settlement gives it {due} sat")
