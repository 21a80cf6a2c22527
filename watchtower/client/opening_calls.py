"""The calls of `StateChannelClient` that begin a channel."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from domain.chain import outpoint_txid, outpoint_vout
from domain.contract.descriptors import with_checksum
from domain.contract.params import ChannelParams as ProtocolParams
from domain.contract.params import check_params
from domain.contract.scripts import funding_descriptor
from domain.contract.state import StateHeader
from domain.errors import InvalidParams
from watchtower.client.creating import Asked, FundedOpening, Propose, check_agreed
from watchtower.client.errors import NotConnected
from watchtower.client.given import data_of, participant_pair, require_number, require_text
from watchtower.client.ids import channel_id_of
from watchtower.client.peers.port import Peer
from watchtower.client.peers.served import ServedPeer
from watchtower.client.protocol.opening import NO_APP, Terms
from watchtower.client.tower.calls import TowerCalls
from watchtower.client.types import ChannelParams, ChannelResult
from watchtower.client.wallet import FundingWallet, Prepared
from watchtower.wire.api import RegisterRequest

STATIC_FEERATE = 2000
"""sat/kvB of the commitments and settlements of new channels (protocol 3.2): whatever is missing then, a child pays."""

MAX_PERIOD = 0xFFFF
"""Blocks: a relative lock time has 16 bits (BIP-68)."""


class OpeningCalls(TowerCalls):
    """`peer` reaches the other party, `wallet` pays for the funding output."""

    peer: Peer | None = None
    wallet: FundingWallet | None = None

    async def create_channel(
        self,
        params: ChannelParams,
        registration: RegisterRequest | None = None,
        *,
        state_data: str | bytes = "",
        app_id: bytes = NO_APP,
        static_feerate: int = STATIC_FEERATE,
        funding_feerate: float | None = None,
        peer: bytes | None = None,
    ) -> ChannelResult:
        """Open a channel with the peer: agree, complete state 0, register, then sign and broadcast the funding.

        This party is `participants[0]`. `state_data` and `app_id` (32 bytes) are those of state 0; `static_feerate` is
        in sat/kvB, `funding_feerate` in sat/vB (None: the node estimates). `peer` (32 bytes) chooses one of several.
        With a `registration` whose state 0 is complete already it is compared with `params` and registered.

        Raises `InvalidParams` for keys, amounts, a period or a script that differ from what the parties bring, or break
        this client's limits; nothing is signed then. After `PeerSilent`, `TransportClosed`, `TowerUnreachable` or a
        crash the same call goes on where it stood; `abandon_channel` gives it up. Raises `FundingRefused` if the tower
        does not find the funding output.
        """
        if registration is not None:
            self._compare(params, registration)
            return _described(await self.register_channel(registration), registration)
        asked = Asked(
            params=params,
            terms=self._terms(params, static_feerate),
            state_data=data_of(state_data),
            app_id=app_id,
            feerate=funding_feerate,
        )
        channel_id, created = await self._opening(peer).run(asked)
        protocol = self._own_party().channel(channel_id).params
        info = await self.get_channel_info(channel_id.hex())
        return ChannelResult(info.channel_id, info, created, with_checksum(funding_descriptor(protocol)))

    async def abandon_channel(self, channel_id: str) -> None:
        """Give up an opening that was never funded; its coins are free again.

        Raises `ChannelNotReady` once the funding transaction is signed: then close the channel instead.
        """
        party = self._own_party()
        channel = await asyncio.to_thread(party.channel, channel_id_of(channel_id))
        await asyncio.to_thread(party.abandon, channel.params.proposal_id)
        if channel.prepared_tx is not None and self.wallet is not None:
            outpoint = channel.params.funding_outpoint
            prepared = Prepared(outpoint_txid(outpoint), outpoint_vout(outpoint), channel.prepared_tx)
            await asyncio.to_thread(self.wallet.release, prepared)

    def _opening(self, peer: bytes | None) -> FundedOpening:
        party = self._own_party()
        if self.peer is None or self.wallet is None:
            raise NotConnected("opening a channel needs a peer and a wallet, or a registration made elsewhere")
        propose: Propose = self.peer.propose_channel
        if isinstance(self.peer, ServedPeer):
            propose = partial(self.peer.propose_channel, peer=peer)
        return FundedOpening(party, self.peer, self.wallet, self.synchronize, propose)

    def _terms(self, params: ChannelParams, static_feerate: int) -> Terms:
        """Terms within the limits of the configuration; the protocol's own rules follow when the keys are known."""
        first, second = participant_pair(params)
        require_text("funding_script", params.funding_script)
        terms = self.config.terms((first.initial_balance, second.initial_balance))
        if params.challenge_period is not None:
            terms = msgspec.structs.replace(terms, challenge_period=params.challenge_period)
        require_number("challenge_period", terms.challenge_period)
        if not self.config.challenge_period <= terms.challenge_period <= MAX_PERIOD:
            raise InvalidParams(
                f"challenge_period is {terms.challenge_period} blocks, this client asks for "
                f"{self.config.challenge_period} at least (its own challenge_period: STATE_CHANNEL_CHALLENGE_PERIOD), "
                f"and {MAX_PERIOD} is the most"
            )
        require_number("static_feerate", static_feerate)
        least, most = self.config.funding_threshold, self.config.max_channel_value
        if not least <= terms.capacity <= most:
            raise InvalidParams(
                f"the capacity of {terms.capacity} sat lies outside {least} to {most} sat, which are this client's "
                "funding_threshold and max_channel_value (STATE_CHANNEL_FUNDING_THRESHOLD, STATE_CHANNEL_MAX_VALUE)"
            )
        return msgspec.structs.replace(terms, static_feerate=static_feerate)

    def _compare(self, params: ChannelParams, registration: RegisterRequest) -> None:
        protocol = ProtocolParams.decode(bytes(registration.params))
        check_params(protocol, self.config.params_policy)
        check_agreed(protocol, StateHeader.decode(bytes(registration.state.header)).balances, params)


def _described(result: ChannelResult, registration: RegisterRequest) -> ChannelResult:
    protocol = ProtocolParams.decode(bytes(registration.params))
    return msgspec.structs.replace(result, descriptor=with_checksum(funding_descriptor(protocol)))
