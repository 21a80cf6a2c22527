"""What a party does and learns on chain: commitments, settlements, claims, spends that were seen."""

from __future__ import annotations

from domain.contract.conditions import ConditionKey
from domain.events import Source, SpendKind, SpendSeen
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client import publishing
from watchtower.client.party_core import PartyCore
from watchtower.client.seat import Step


class PartyOnChain(PartyCore):
    """The part of `ChannelParty` that makes transactions for the chain."""

    def sign_commitment(self, channel_id: bytes, sequence: int) -> bytes:
        """The own commitment of a state, complete for broadcast; the release log is read anew before signing.

        Raises `SelfBreach` for a revoked state. From here no update is possible (U6).
        """
        with self._mutex:
            channel = self._reload(self.channel(channel_id).stream)
            step, raw = publishing.sign_commitment(self._seat(channel), sequence)
            self._take(channel, step)
            return raw

    def settlement(self, channel_id: bytes, sequence: int, side: Side) -> bytes:
        """The complete settlement of the commitment of `side`; valid in block h_c + T."""
        with self._mutex:
            state = self.state(channel_id, sequence)
            return publishing.settlement(self._seat(self.channel(channel_id)), state, side).serialize()

    def claim_success(
        self, channel_id: bytes, sequence: int, side: Side, key: ConditionKey, preimage: bytes, fee: int
    ) -> bytes:
        """Claim of an incoming HTLC to the own payout script, from the settlement of the commitment of `side`."""
        with self._mutex:
            seat, content = self._seat(self.channel(channel_id)), self.state(channel_id, sequence).content
            payout = seat.channel.params.keys(seat.own).payout
            return publishing.claim_success(seat, content, side, key, preimage, fee, payout)

    def claim_timeout(self, channel_id: bytes, sequence: int, side: Side, key: ConditionKey, fee: int) -> bytes:
        """Refund of an outgoing HTLC to the own payout script, valid above its expiry height."""
        with self._mutex:
            seat, content = self._seat(self.channel(channel_id)), self.state(channel_id, sequence).content
            return publishing.claim_timeout(seat, content, side, key, fee, seat.channel.params.keys(seat.own).payout)

    def note_spend(self, channel_id: bytes, raw: bytes, height: int) -> None:
        """Record that a spend of the funding output was seen; no updates from here, whatever becomes of it (U6)."""
        with self._mutex:
            channel = self.channel(channel_id)
            event = SpendSeen(
                recorded_at=self._clock.wall_microseconds(),
                kind=SpendKind.UNKNOWN,
                txid=Transaction.parse(raw).txid,
                side=None,
                sequence=None,
                raw=raw,
                source=Source.CLIENT,
                height=height,
            )
            self._take(channel, Step((event,)))
