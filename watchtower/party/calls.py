"""The calls about channels that a command makes: each is its arguments, and what it does at a desk.

The result is a struct of the SDK or a dictionary; `plain` makes either a JSON document. `channel` is the beginning of
a channel id; amounts are satoshi, balances those of A and B.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from domain.chain import from_display
from domain.errors import InvalidParams, MalformedInput
from watchtower.client.errors import AWAY, NotConnected
from watchtower.client.party.proofs import newer_state_proof, revocation_proof
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.opening import NO_APP
from watchtower.client.types import ChannelParams, ChannelParticipant, ProtocolState, StateUpdate
from watchtower.party.desk import Desk
from watchtower.party.settings import WalletPlace
from watchtower.wire.hexes import Hex, Hex32, to_plain


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="call", kw_only=True):
    """Base of all calls.

    One about `payments` needs them to run while it waits; one that is `offline` can do without the tower.
    """

    payments: ClassVar[bool] = False
    offline: ClassVar[bool] = False

    async def answer(self, desk: Desk) -> Any:
        """Do it; raises what the SDK raises."""
        raise NotImplementedError


class TellParty(Call, tag="party info", frozen=True):
    """The party's identity, its tower, and its channels as its own log has them."""

    offline: ClassVar[bool] = True

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        party, state = desk.party, await _tower(desk)
        return {
            "key": desk.key.hex(),
            "network": desk.client.config.network,
            "listen": desk.settings.listen or None,
            "next_funding_key": party.next_funding_key().hex(),
            "tower": {
                "url": desk.settings.tower.url,
                "id": state.tower_id if state else None,
                "watching": state.watching if state else None,
            },
            "height": state.height if state else party.height,
            "channels": [
                {
                    "channel_id": channel.channel_id.hex(),
                    "side": channel.own_side.name,
                    "sequence": channel.sequence,
                    "final_sequence": channel.final_sequence,
                    "capacity": channel.params.capacity,
                    "balances": list(channel.balances if channel.sequence >= 0 else channel.initial_balances),
                    "state": _standing(channel),
                }
                for channel in party.channels()
            ],
        }


class CreateChannel(Call, tag="channel create", frozen=True):
    """Open a channel with `peer` and fund it; with `wait_seconds` also wait until updates are taken."""

    peer: str
    balances: tuple[int, int]
    challenge_period: int | None = None
    taproot: bool | None = None
    state_data: Hex = Hex(b"")
    app_id: Hex32 | None = None
    feerate: float | None = None
    wallet: WalletPlace = WalletPlace()
    wait_seconds: float | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        enabled = desk.client.config.taproot_enabled
        if self.taproot not in (None, enabled):
            raise InvalidParams(
                f"this party opens channels {'with' if enabled else 'without'} Taproot; set taproot_enabled in its "
                "party.toml and at its tower, and start it again"
            )
        key = desk.meet(self.peer)
        desk.use_wallet(self.wallet)
        result = await desk.client.create_channel(
            ChannelParams([ChannelParticipant("", balance) for balance in self.balances], self.challenge_period),
            state_data=bytes(self.state_data),
            app_id=NO_APP if self.app_id is None else bytes(self.app_id),
            funding_feerate=self.feerate,
            peer=key,
        )
        if self.wait_seconds is None:
            return result
        info = await desk.client.wait_for_status(
            result.channel_id, "ACTIVE", timeout_ms=round(self.wait_seconds * 1000)
        )
        return msgspec.structs.replace(result, info=info)


class UpdateChannel(Call, tag="channel update", frozen=True):
    """Make the next state; `state_data` None keeps that of the newest state."""

    channel: str
    balances: tuple[int, int]
    state_data: Hex | None = None
    sequence: int | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.update_state(
            _update(desk, self.channel, self.balances, self.state_data, self.sequence)
        )


class ApproveUpdate(Call, tag="channel approve", frozen=True):
    """Agree beforehand to exactly this next state, which the peer will offer; a running party keeps it in memory."""

    channel: str
    balances: tuple[int, int]
    state_data: Hex | None = None
    sequence: int | None = None
    closing: bool = False

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        if self.closing:
            channel_id = desk.channel(self.channel).channel_id.hex()
            await desk.client.approve_close(channel_id, self.balances)
            return {"channel_id": channel_id, "approved": "close", "balances": list(self.balances)}
        update = _update(desk, self.channel, self.balances, self.state_data, self.sequence)
        await desk.client.approve_update(update)
        return {
            "channel_id": update.channel_id,
            "approved": "update",
            "sequence": update.sequence_number,
            "balances": list(self.balances),
        }


class CloseChannel(Call, tag="channel close", frozen=True):
    """Close with the peer; `balances` None takes those of the newest state, `fee` None the channel's fixed feerate."""

    channel: str
    balances: tuple[int, int] | None = None
    fee: int | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        channel = desk.channel(self.channel)
        balances = channel.balances if self.balances is None else self.balances
        return await desk.client.close_channel_cooperative(channel.channel_id.hex(), balances, fee=self.fee)


class PublishState(Call, tag="channel close --unilateral", frozen=True):
    """Publish the own commitment of a state, None for the newest one."""

    channel: str
    sequence: int | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        channel = desk.channel(self.channel)
        sequence = channel.sequence if self.sequence is None else self.sequence
        return await desk.client.close_channel_unilateral(channel.channel_id.hex(), sequence)


class AbandonChannel(Call, tag="channel abandon", frozen=True):
    """Give up an opening that was never funded."""

    channel: str

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        channel_id = desk.channel(self.channel).channel_id.hex()
        await desk.client.abandon_channel(channel_id)
        return {"channel_id": channel_id, "abandoned": True}


class ChallengeState(Call, tag="channel challenge", frozen=True):
    """Show a proof; without one the party makes it from its own records about `txid` (display order)."""

    channel: str
    sequence: int
    proof: str | None = None
    txid: str | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        proof = self._own_proof(desk) if self.proof is None else self.proof
        return await desk.client.challenge_state(await desk.channel_id(self.channel), self.sequence, proof)

    def _own_proof(self, desk: Desk) -> str:
        if self.txid is None:
            raise MalformedInput("a challenge needs a proof, or the txid of the transaction that it accuses")
        channel, txid = desk.channel(self.channel), from_display(self.txid)
        make = revocation_proof if self.sequence <= channel.peer_revoked else newer_state_proof
        return make(desk.party, channel.channel_id, self.sequence, txid)


class RespondToChallenge(Call, tag="channel respond", frozen=True):
    """Weigh a counter-proof against the newest challenge."""

    channel: str
    counter_proof: str

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.respond_to_challenge(await desk.channel_id(self.channel), self.counter_proof)


def plain(result: Any) -> Any:
    """The result as dictionaries, lists and texts."""
    return to_plain(result)


def _update(
    desk: Desk, text: str, balances: tuple[int, int], state_data: Hex | None, sequence: int | None
) -> StateUpdate:
    channel = desk.channel(text)
    kept = channel.state.content.state_data if channel.state is not None else b""
    return StateUpdate(
        channel_id=channel.channel_id.hex(),
        sequence_number=channel.sequence + 1 if sequence is None else sequence,
        balances=balances,
        state_data=kept if state_data is None else bytes(state_data),
    )


async def _tower(desk: Desk) -> ProtocolState | None:
    """The tower's state, None if nobody can ask it now."""
    try:
        return await desk.client.get_state()
    except (*AWAY, NotConnected):
        return None


def _standing(channel: PartyChannel) -> str:
    if channel.abandoned:
        return "abandoned"
    if channel.is_closing:
        return "closing"
    if channel.frozen is not None:
        return "frozen"
    return "open" if channel.sequence >= 0 else "opening"
