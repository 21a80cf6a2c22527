"""Opening a channel with money so that every step may be repeated (protocol 5.2, steps i to v).

    agree on constants ▶ compare with what was asked ▶ prepare the funding ▶ complete state 0 ▶ register ▶ sign ▶ send

Each step is in the party's log before the next one begins. A repetition of the same request goes on behind the last
one that was done. Nothing is signed before the own tower knows the channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from domain.chain import outpoint_txid, outpoint_vout
from domain.contract.descriptors import with_checksum
from domain.contract.params import ChannelParams as ProtocolParams
from domain.contract.scripts import funding_descriptor
from domain.errors import DomainError, InvalidParams
from domain.units import Side
from watchtower.client.errors import TooManyRequests, TowerProblem, TowerUnavailable, Unauthorized
from watchtower.client.given import participant_pair, require_text
from watchtower.client.party.party import ChannelParty
from watchtower.client.peer_errors import PeerRefused
from watchtower.client.peers.port import Peer
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.opening import NO_APP, Terms
from watchtower.client.types import TAPROOT, ChannelParams
from watchtower.client.wallet import FundingWallet, Prepared

Propose = Callable[[Terms], Awaitable[bytes]]
"""Agrees with one peer on the constants; the proposal id."""

Register = Callable[[bytes, bytes], Awaitable[object]]
"""Registers a channel (id, unsigned funding transaction) at the own tower."""

PASSING = (TowerUnavailable, TooManyRequests, Unauthorized)
"""Refusals of the tower that have nothing to do with the channel: the opening goes on when they are over."""

SHOWN = 600
"""Characters of a foreign text in an error."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be opened; `feerate` of the funding transaction in sat/vB, None lets the node estimate."""

    params: ChannelParams
    terms: Terms
    state_data: bytes = b""
    app_id: bytes = NO_APP
    feerate: float | None = None


class FundedOpening:
    """One opening of one party."""

    def __init__(
        self, party: ChannelParty, peer: Peer, wallet: FundingWallet, register: Register, propose: Propose | None = None
    ) -> None:
        self._party = party
        self._peer = peer
        self._wallet = wallet
        self._register = register
        self._propose = propose or peer.propose_channel

    async def run(self, asked: Asked) -> tuple[bytes, bool]:
        """Open, or go on with what was begun; the channel id, and False if there was nothing left to do.

        Raises `InvalidParams` for keys, amounts or a script that differ. A refusal gives the coins back and gives the
        opening up; after silence of peer or tower the coins stay reserved and the same call goes on.
        """
        channel = await asyncio.to_thread(find_opening, self._party, asked)
        if channel is None:
            channel = await self._agree(asked)
        name = channel.params.proposal_id
        if channel.funding_tx is not None and channel.acknowledged:
            if not channel.is_closing:
                await asyncio.to_thread(self._wallet.broadcast, channel.funding_tx)
            return channel.channel_id, False
        prepared = await self._prepared(channel, asked)
        try:
            channel_id = await self._peer.fix_channel(
                name, prepared.txid, prepared.vout, state_data=asked.state_data, app_id=asked.app_id
            )
            await self._register(channel_id, prepared.unsigned)
        except (DomainError, PeerRefused, TowerProblem) as error:
            if not isinstance(error, PASSING):
                await asyncio.shield(asyncio.to_thread(self._give_up, name, prepared))
            raise
        await asyncio.to_thread(self._sign_and_send, name, prepared)
        return channel_id, True

    async def _agree(self, asked: Asked) -> PartyChannel:
        await asyncio.to_thread(check_own_key, self._party, asked.params)
        proposal_id = await self._propose(asked.terms)
        channel = await asyncio.to_thread(self._party.channel, proposal_id)
        try:
            check_agreed(channel.params, channel.initial_balances, asked.params)
        except InvalidParams:
            await asyncio.to_thread(self._party.abandon, proposal_id)
            raise
        return channel

    async def _prepared(self, channel: PartyChannel, asked: Asked) -> Prepared:
        """What the wallet prepared for this channel, now or before a crash."""
        if channel.prepared_tx is not None:
            outpoint = channel.params.funding_outpoint
            return Prepared(outpoint_txid(outpoint), outpoint_vout(outpoint), channel.prepared_tx)
        return await asyncio.to_thread(self._prepare, channel, asked)

    def _prepare(self, channel: PartyChannel, asked: Asked) -> Prepared:
        name = channel.params.proposal_id
        prepared = self._wallet.prepare(self._party.funding_spk(name), channel.params.capacity, asked.feerate)
        try:
            self._party.note_prepared(name, prepared.unsigned, prepared.vout)
        except BaseException:
            if self._party.channel(name).prepared_tx is None:
                self._wallet.release(prepared)
            raise
        return prepared

    def _give_up(self, name: bytes, prepared: Prepared) -> None:
        if self._party.channel(name).funding_tx is None:
            self._party.abandon(name)
            self._wallet.release(prepared)

    def _sign_and_send(self, name: bytes, prepared: Prepared) -> None:
        """The signed bytes are in the log before the network has them, so that a restart can send them again."""
        raw = self._party.channel(name).funding_tx
        if raw is None:
            raw = self._wallet.sign(prepared)
            self._party.note_funding_sent(name, raw)
        self._wallet.broadcast(raw)


def find_opening(party: ChannelParty, asked: Asked) -> PartyChannel | None:
    """The channel with exactly these two keys, if the opening was begun before. `InvalidParams` if the rest differs."""
    wanted = [who.pubkey.lower() for who in participant_pair(asked.params)]
    for channel in party.channels():
        found = [channel.params.keys(side).fund.hex() for side in Side]
        if channel.own_side is Side.A and found == wanted and not channel.abandoned:
            check_agreed(channel.params, channel.initial_balances, asked.params)
            _check_rest(channel, asked)
            return channel
    return None


def _check_rest(channel: PartyChannel, asked: Asked) -> None:
    """What is asked for beside `params`: a repetition that wants another channel must not get this one."""
    params, terms = channel.params, asked.terms
    compared: list[tuple[str, object, object]] = [
        ("static_feerate", terms.static_feerate, params.static_feerate),
        ("profile", terms.profile, params.profile),
    ]
    if channel.state is not None:
        compared.append(("app_id", asked.app_id.hex(), channel.state.content.read_header().app_id.hex()))
        if channel.sequence == 0:
            compared.append(("state_data", asked.state_data.hex(), channel.state.content.state_data.hex()))
    for name, wanted, found in compared:
        if wanted != found:
            raise InvalidParams(f"{name} is {wanted!r:.80}, the channel with these keys has {found!r:.80}")


def check_own_key(party: ChannelParty, params: ChannelParams) -> None:
    """Raise `InvalidParams` unless participants[0] is this party with its next key."""
    opener, _ = participant_pair(params)
    own = party.next_funding_key().hex()
    if opener.pubkey.lower() not in ("", own):
        raise InvalidParams(
            f"participants[0] opens the channel and must be this party, whose next key is {own}; "
            f"got {opener.pubkey[:SHOWN]!r}"
        )


def check_agreed(protocol: ProtocolParams, balances: tuple[int, int], params: ChannelParams) -> None:
    """Compare what was asked for with constants of a channel; `InvalidParams` shows both."""
    for side, who in zip(Side, participant_pair(params), strict=True):
        found = protocol.keys(side).fund.hex()
        if who.pubkey.lower() not in ("", found):
            raise InvalidParams(
                f"participants differ: [{side.value}] has pubkey {who.pubkey[:SHOWN]!r}, the party there brings {found}"
            )
        if who.initial_balance != balances[side]:
            raise InvalidParams(
                f"participants differ: [{side.value}] has {who.initial_balance} sat, the channel {balances[side]} sat"
            )
    if params.challenge_period not in (None, protocol.challenge_period):
        raise InvalidParams(
            f"challenge_period is {params.challenge_period}, the channel has {protocol.challenge_period}"
        )
    require_text("funding_script", params.funding_script)
    if params.funding_script not in {TAPROOT, *own_descriptors(protocol)}:
        raise InvalidParams(
            f"funding_script is {params.funding_script[:SHOWN]!r}; this channel has {funding_descriptor(protocol)!r}. "
            f"Give {TAPROOT!r} to take whatever the channel has"
        )


def own_descriptors(protocol: ProtocolParams) -> set[str]:
    """Every form of the channel's own funding descriptor, with and without checksum."""
    forms = {funding_descriptor(protocol), funding_descriptor(protocol, musig=False)}
    return forms | {with_checksum(form) for form in forms}
