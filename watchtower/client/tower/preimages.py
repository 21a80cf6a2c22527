"""The calls of `StateChannelClient` about preimages of conditional payments."""

from __future__ import annotations

import msgspec

from domain.events import Source
from watchtower.client.ids import channel_name
from watchtower.client.tower.session import TowerSession, is_replayed, read
from watchtower.wire.conditions import PreimageRequest
from watchtower.wire.hexes import SecretHex


class PreimageResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `add_preimage`; `duplicate` if the tower knew the preimage."""

    channel_id: str
    payment_hash: str
    duplicate: bool = False


class KnownPreimage(msgspec.Struct, frozen=True, kw_only=True):
    """A payment hash and its preimage in hexadecimal; `public` = a transaction showed it to everybody."""

    payment_hash: str
    preimage: str
    public: bool

    def __repr__(self) -> str:
        return f"<KnownPreimage of {self.payment_hash}>"


class ChannelPreimages(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `get_preimages`. `missing` are payment hashes that the tower could claim with their preimages."""

    channel_id: str
    preimages: list[KnownPreimage]
    missing: list[str]


class PreimageCalls(TowerSession):
    """A preimage belongs to a payment: the tower uses it in every channel with the same payment hash."""

    async def add_preimage(self, channel_id: str, preimage: bytes) -> PreimageResult:
        """Hand over the 32 bytes that open an HTLC of a stored state; durable when it returns.

        Raises `TowerProblem` (`invalid-secret`) if they open none of this channel.
        """
        body = PreimageRequest(preimage=SecretHex(preimage))
        raw, answer = await self._call("POST", f"/v1/channels/{channel_name(channel_id)}/preimages", body)
        return msgspec.structs.replace(read(raw, PreimageResult), duplicate=is_replayed(answer))

    async def get_preimages(self, channel_id: str) -> ChannelPreimages:
        """What is known of the channel's pending HTLCs."""
        raw, _ = await self._call("GET", f"/v1/channels/{channel_name(channel_id)}/preimages")
        return read(raw, ChannelPreimages)

    async def exchange_preimages(self, channel_id: bytes) -> None:
        """The party learns what the tower saw, and the tower what the party needs to claim."""
        party = self._own_party()
        known = await self.get_preimages(channel_id.hex())
        for each in known.preimages:
            source = Source.MEMPOOL if each.public else Source.CLIENT
            party.learn_preimage(channel_id, bytes.fromhex(each.preimage), source)
        for payment_hash in known.missing:
            preimage = party.preimage(bytes.fromhex(payment_hash))
            if preimage is not None:
                await self.add_preimage(channel_id.hex(), preimage)
