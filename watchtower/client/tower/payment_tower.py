"""What payments ask of the own tower: the height, and what becomes of channels that close.

Every answer is asked for anew; the tower is brought up to date where rule U4 waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from domain.errors import DomainError
from domain.status import ChannelStatus
from watchtower.client.dispute_types import ClosureResult
from watchtower.client.errors import StateChannelError
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.tower.legs import QUIET, UNRIPE, ClaimEnd, OnChain
from watchtower.client.types import ChannelInfo, FundingStatus, ProtocolState
from watchtower.ports import StoreBusy, StoreConflict, StoreFull

PASSING = (StateChannelError, DomainError, StoreBusy, StoreFull, StoreConflict)
"""Trouble that another look may find gone."""

_log = logging.getLogger(__name__)


class PaymentTower(Protocol):
    """What payments ask of the own tower: `StateChannelClient` with the same party."""

    async def get_state(self) -> ProtocolState:
        """Height of the chain."""

    async def get_channel_info(self, channel_id: str) -> ChannelInfo:
        """Status and claims."""

    async def get_funding_status(self, channel_id: str) -> FundingStatus:
        """Whether the funding is deep enough, which state was published."""

    async def synchronize(self, channel_id: bytes) -> object:
        """Bring the tower what the party has (rule U4)."""

    async def exchange_preimages(self, channel_id: bytes) -> None:
        """Preimages of the chain come in, own ones go to the tower."""

    async def close_channel_unilateral(self, channel_id: str, sequence: int) -> ClosureResult:
        """Publish the own commitment."""


class TowerWatch:
    """The own tower as payments see it; without one only the party's own height is known."""

    def __init__(self, party: ChannelParty, tower: PaymentTower | None) -> None:
        self._party, self._tower = party, tower
        self._resolved: dict[bytes, OnChain] = {}
        self._ripe: set[bytes] = set()

    async def height(self) -> int | None:
        """The height of the chain, which the party then knows, too."""
        if self._tower is None:
            return self._party.height
        height = (await self._tower.get_state()).height
        if height is not None:
            await asyncio.to_thread(self._party.note_height, height)
        return height

    async def closing(self) -> dict[bytes, OnChain]:
        """What the tower says about channels with HTLCs; brings it up to date where rule U4 waits for it.

        A channel that it never called deep enough counts as unfunded while it does not answer.
        """
        found: dict[bytes, OnChain] = {}
        if self._tower is None:
            return found
        legs = _open_legs(self._party)
        for channel in await asyncio.to_thread(self._party.channels):
            name = channel.channel_id
            if name in self._resolved:
                found[name] = self._resolved[name]
                continue
            if channel.state is None or not (_is_behind(channel) or channel.htlcs or name in legs):
                continue
            try:
                word = await self._word(self._tower, channel)
            except PASSING as error:
                _log.warning("payment_delayed about=%s reason=%s", f"channel:{name.hex()[:16]}", error)
                if name not in self._ripe:
                    found[name] = OnChain(ChannelStatus.PROPOSED)
                continue
            if word is not None:
                found[name] = word
            if word is not None and word.status is ChannelStatus.RESOLVED:
                self._resolved[name] = word
        return found

    async def _word(self, tower: PaymentTower, channel: PartyChannel) -> OnChain | None:
        name = channel.channel_id.hex()
        info = await tower.get_channel_info(name)
        if info.status in QUIET:
            if _is_behind(channel):
                await tower.synchronize(channel.channel_id)
            return await self._waiting(tower, channel.channel_id, info.status)
        if info.current_sequence < channel.signed_sequence:
            with contextlib.suppress(*PASSING):
                await tower.synchronize(channel.channel_id)  # the peer may have published what it did not complete
        await tower.exchange_preimages(channel.channel_id)
        funding = await tower.get_funding_status(name)
        spent, double_spent = funding.spent_by, funding.status == "DOUBLE_SPENT"
        claims = tuple(
            ClaimEnd((claim.type, claim.id), claim.status == "OURS", claim.height)
            for claim in info.claims
            if claim.status in ("OURS", "THEIRS") and claim.height is not None
        )
        sequence, spent_at = (None, None) if spent is None else (spent.sequence, spent.height)
        return OnChain(info.status, sequence, claims, double_spent, spent_at)

    async def _waiting(self, tower: PaymentTower, name: bytes, status: ChannelStatus) -> OnChain | None:
        """Word of a funding that is not deep enough; None once it is, which is asked until it was said once."""
        if status in UNRIPE:
            self._ripe.discard(name)
        elif name in self._ripe or (await tower.get_funding_status(name.hex())).confirmed:
            self._ripe.add(name)
            return None
        return OnChain(status if status in UNRIPE else ChannelStatus.FUNDING_BROADCAST)


def _open_legs(party: ChannelParty) -> set[bytes]:
    """The channels that open payments go through."""
    legs = (leg for payment in party.open_payments() for leg in (payment.incoming, payment.outgoing))
    return {leg.channel_id for leg in legs if leg is not None}


def _is_behind(channel: PartyChannel) -> bool:
    """Whether the newest state is complete and the tower has not acknowledged it."""
    return not channel.is_closing and channel.firm is not None and channel.final_sequence < channel.sequence
