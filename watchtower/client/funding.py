"""Opening a channel with money: agree, register at the own tower, and only then sign and broadcast.

The order is that of protocol 5.2, steps (i) to (v): the funding transaction has no signature before state 0 is
complete on this side and the own tower has the registration.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from domain.chain import display
from domain.units import Side
from watchtower.client.party.party import ChannelParty
from watchtower.client.peers.link import PeerLink
from watchtower.client.protocol.opening import NO_APP, Terms
from watchtower.client.wallet import FundingWallet, Prepared, WalletError

Register = Callable[[bytes, bytes], Awaitable[object]]
"""Registers a channel (id, unsigned funding transaction) at the own tower: `StateChannelClient.synchronize`."""

_log = logging.getLogger(__name__)


async def open_funded(
    link: PeerLink,
    wallet: FundingWallet,
    terms: Terms,
    register: Register | None,
    *,
    state_data: bytes = b"",
    app_id: bytes = NO_APP,
    feerate: float | None = None,
) -> bytes:
    """Open a channel and broadcast its funding transaction (feerate in sat/vB); returns the channel id.

    If anything fails before the signature the coins are given back and no money has moved. `register` is None
    only for a party without a tower.
    """
    proposal_id = await link.propose_channel(terms)
    spk = await asyncio.to_thread(link.party.funding_spk, proposal_id)
    prepared = await asyncio.to_thread(wallet.prepare, spk, terms.capacity, feerate)
    try:
        channel_id = await link.fix_channel(
            proposal_id, prepared.txid, prepared.vout, state_data=state_data, app_id=app_id
        )
        if register is not None:
            await register(channel_id, prepared.unsigned)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(wallet.release, prepared))
        raise
    await asyncio.to_thread(_sign_and_send, link.party, wallet, channel_id, prepared)
    return channel_id


def send_fundings(party: ChannelParty, wallet: FundingWallet) -> int:
    """Broadcast signed funding transactions of open channels again, for a crash may have come first; how many.

    Harmless for those that the network knows. A refusal is logged: the channel's own timeline shows the rest.
    """
    sent = 0
    for channel in party.channels():
        if channel.own_side is not Side.A or channel.funding_tx is None or channel.is_closing:
            continue
        try:
            wallet.broadcast(channel.funding_tx)
            sent += 1
        except WalletError as error:
            txid = display(channel.params.funding_txid)
            _log.warning("funding_not_sent txid=%s reason=%s", txid, error)
    return sent


def _sign_and_send(party: ChannelParty, wallet: FundingWallet, channel_id: bytes, prepared: Prepared) -> None:
    """The signed bytes are in the log before the network has them, so that a restart can send them again."""
    raw = wallet.sign(prepared)
    party.note_funding_sent(channel_id, raw)
    wallet.broadcast(raw)
