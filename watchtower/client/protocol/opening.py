"""Opening a channel up to the point where state 0 can be exchanged (protocol 5.2, opening steps i and ii).

    A: open_channel ──▶ B: answer_opening
    A: take_acceptance ◀── accept_channel          both have stored the proposal
    A: fix_funding ── funding_fixed, update_offer(0) ──▶ B: on_funding_fixed

Then messages 0b to 4 run for state 0 as for any other, without secrets. The funding transaction must not be
signed before that is done.
"""

from __future__ import annotations

import msgspec

from domain.chain import NULL_TXID, make_outpoint
from domain.contract import keys
from domain.contract.derivation import ChannelSecrets
from domain.contract.params import TAPROOT, ChannelParams, KeyBlock, ParamsPolicy, check_params, default_reserve
from domain.contract.revocation import commitment_point
from domain.contract.scripts import p2tr
from domain.errors import ChannelNotReady, Equivocation, InvalidParams, InvalidState, MalformedInput
from domain.events import ChannelProposed, FundingBroadcast, Source
from domain.units import Side
from watchtower.client.given import require_whole
from watchtower.client.protocol.contents import first_content, offered
from watchtower.client.protocol.messages import AcceptChannel, FundingFixed, OpenChannel
from watchtower.client.protocol.resend import offer_message
from watchtower.client.protocol.seat import NOTHING, Seat, Step, require_open
from watchtower.wire.hexes import Hex32, Hex33, KeyBlockHex, TxidHex

NO_APP = bytes(32)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the opener asks for. Balances of A (the opener) and B in satoshi; they add up to the capacity."""

    balances: tuple[int, int]
    challenge_period: int = 144
    static_feerate: int = 2000
    reserve_sat: int | None = None
    flags: int = 0
    profile: int = TAPROOT

    @property
    def capacity(self) -> int:
        """Value of the funding output in satoshi."""
        return sum(self.balances)


class OwnKeys(msgspec.Struct, frozen=True):
    """One party's secrets for one channel and the scripts that it wants to be paid to."""

    channel_index: int
    secrets: ChannelSecrets
    payout_spk: bytes
    sweep_spk: bytes

    @property
    def block(self) -> KeyBlock:
        """The public side."""
        return self.secrets.key_block(self.payout_spk)

    @property
    def points(self) -> tuple[bytes, bytes]:
        """Own per-commitment points of states 0 and 1."""
        return commitment_point(self.secrets.seed, 0), commitment_point(self.secrets.seed, 1)


def own_script(secret: bytes) -> bytes:
    """P2TR script of a key without script tree (BIP-86): the default for payouts and sweeps."""
    internal = keys.xonly(keys.public_key(secret))
    return p2tr(keys.tweak_xonly(internal, keys.taproot_tweak(internal, b""))[0])


def open_message(name: bytes, terms: Terms, chain_hash: bytes, own: OwnKeys) -> OpenChannel:
    """The first message; `name` is 32 random bytes."""
    require_whole("balances", *terms.balances)
    if min(terms.balances) < 0:
        raise InvalidState("initial balances must not be negative")
    reserve = default_reserve(terms.capacity) if terms.reserve_sat is None else terms.reserve_sat
    return OpenChannel(
        channel_id=Hex32(name),
        chain_hash=Hex32(chain_hash),
        capacity=terms.capacity,
        challenge_period=terms.challenge_period,
        static_feerate=terms.static_feerate,
        reserve_sat=reserve,
        flags=terms.flags,
        key_block=KeyBlockHex(own.block.encode()),
        points=(Hex33(own.points[0]), Hex33(own.points[1])),
        balances=terms.balances,
        profile=terms.profile,
    )


def agreed_params(message: OpenChannel, block_b: KeyBlock, policy: ParamsPolicy) -> ChannelParams:
    """The constants of both sides, with a blank funding outpoint; `InvalidParams` if they must not be used."""
    params = ChannelParams(
        chain_hash=bytes(message.chain_hash),
        funding_txid=bytes(32),
        funding_vout=0xFFFFFFFF,
        capacity=message.capacity,
        challenge_period=message.challenge_period,
        reserve_sat=message.reserve_sat,
        keys_a=KeyBlock.decode(message.key_block),
        keys_b=block_b,
        static_feerate=message.static_feerate,
        flags=message.flags,
        profile=message.profile,
    )
    check_params(params, policy)
    if sum(message.balances) != params.capacity:
        raise InvalidParams(f"initial balances add up to {sum(message.balances)} sat, not to {params.capacity} sat")
    return params


def proposed(
    params: ChannelParams,
    side: Side,
    own: OwnKeys,
    peer_points: tuple[bytes, bytes],
    balances: tuple[int, int],
    now: int,
) -> ChannelProposed:
    """The first event of a channel in a party's store."""
    for point in peer_points:
        if not keys.is_public_key(point):
            raise InvalidParams("a per-commitment point of the peer is not a compressed point of the curve")
    return ChannelProposed(
        recorded_at=now,
        params=params.encode(),
        own_side=side,
        channel_index=own.channel_index,
        own_points=own.points,
        counterparty_points=(bytes(peer_points[0]), bytes(peer_points[1])),
        initial_balances=balances,
    )


def accept_message(message: OpenChannel, own: OwnKeys) -> AcceptChannel:
    """The acceptor's answer."""
    return AcceptChannel(
        channel_id=message.channel_id,
        key_block=KeyBlockHex(own.block.encode()),
        points=(Hex33(own.points[0]), Hex33(own.points[1])),
    )


def fixed_message(seat: Seat) -> FundingFixed:
    """Which outpoint the opener fixed."""
    params = seat.channel.params
    return FundingFixed(
        channel_id=Hex32(params.proposal_id),
        funding_txid=TxidHex(params.funding_txid),
        funding_vout=params.funding_vout,
    )


def fix_funding(seat: Seat, txid: bytes, vout: int) -> Step:
    """The opener fixes the outpoint; it cannot be changed. `offer_first` follows."""
    if seat.own is not Side.A:
        raise ChannelNotReady("only the opener A fixes the funding outpoint")
    return _fix(seat, txid, vout)


def on_funding_fixed(seat: Seat, message: FundingFixed) -> Step:
    """The acceptor stores the outpoint; a repetition changes nothing, another outpoint is refused."""
    if seat.own is not Side.B:
        raise ChannelNotReady("only the opener A fixes the funding outpoint")
    return _fix(seat, message.funding_txid, message.funding_vout)


def offer_first(seat: Seat, state_data: bytes, app_id: bytes) -> Step:
    """Message 0a for state 0, after the outpoint was fixed; nothing once it is complete."""
    require_open(seat.channel)
    if seat.channel.state is not None:
        return NOTHING
    pending = seat.channel.pending
    if pending is not None:
        return Step(messages=(fixed_message(seat), offer_message(seat, pending.content)))
    content = first_content(seat, state_data, app_id)
    seat.check_content(content)
    return Step((offered(seat, content, seat.own),), (fixed_message(seat), offer_message(seat, content)))


def _fix(seat: Seat, txid: bytes, vout: int) -> Step:
    params = seat.channel.params
    if bytes(txid) == NULL_TXID:
        # It stands for an unknown outpoint: fixed with it, the channel could be given another one later.
        raise MalformedInput("a funding txid of zeros names no transaction")
    if params.is_funding_known:
        if params.funding_outpoint == make_outpoint(txid, vout):
            return NOTHING
        raise Equivocation("another funding outpoint is fixed for this channel; open a new one with fresh keys")
    require_open(seat.channel)
    named = params.with_funding(bytes(txid), vout)
    event = FundingBroadcast(
        recorded_at=seat.now,
        outpoint=named.funding_outpoint,
        channel_id=named.channel_id,
        source=Source.CLIENT,
        raw=None,
    )
    return Step((event,))
