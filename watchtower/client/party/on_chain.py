"""What a party does and learns on chain: commitments, settlements, claims, spends that were seen."""

from __future__ import annotations

from domain.chain import BlockRef
from domain.contract.conditions import ConditionKey
from domain.events import SpendDisconnected
from domain.units import Side
from watchtower.client.party.core import PartyCore
from watchtower.client.protocol import publishing, rescuing
from watchtower.client.protocol.channel import CompleteState
from watchtower.client.protocol.messages import Message
from watchtower.client.protocol.seat import Step


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
            state = self._signed(channel_id, sequence)
            return publishing.settlement(self._seat(self.channel(channel_id)), state, side).serialize()

    def _signed(self, channel_id: bytes, sequence: int) -> CompleteState:
        """A state whose settlements are signed: a complete one, or one in flight that the peer can publish."""
        accepted = self.channel(channel_id).accepted
        return accepted if accepted is not None and accepted.seq == sequence else self.state(channel_id, sequence)

    def claim_success(
        self, channel_id: bytes, sequence: int, side: Side, key: ConditionKey, preimage: bytes, fee: int
    ) -> bytes:
        """Claim of an incoming HTLC to the own payout script, from the settlement of the commitment of `side`."""
        with self._mutex:
            seat, content = self._seat(self.channel(channel_id)), self._signed(channel_id, sequence).content
            payout = seat.channel.params.keys(seat.own).payout
            return publishing.claim_success(seat, content, side, key, preimage, fee, payout)

    def claim_timeout(self, channel_id: bytes, sequence: int, side: Side, key: ConditionKey, fee: int) -> bytes:
        """Refund of an outgoing HTLC to the own payout script, valid above its expiry height."""
        with self._mutex:
            seat, content = self._seat(self.channel(channel_id)), self._signed(channel_id, sequence).content
            return publishing.claim_timeout(seat, content, side, key, fee, seat.channel.params.keys(seat.own).payout)

    def note_spend(self, channel_id: bytes, raw: bytes, height: int, block_hash: bytes | None = None) -> None:
        """Record a spend of the funding output; no updates from here, whatever becomes of it (U6).

        With `block_hash` (32 bytes, internal order) it is in the block at `height`.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            self._take(channel, publishing.spend_seen(self._seat(channel), raw, height, block_hash))

    def note_disconnected(self, channel_id: bytes, txid: bytes, height: int, block_hash: bytes) -> None:
        """The block with the spend left the active chain; the channel stays closed for updates (U6)."""
        with self._mutex:
            channel = self.channel(channel_id)
            block = BlockRef(height, bytes(block_hash))
            event = SpendDisconnected(recorded_at=self._clock.wall_microseconds(), txid=bytes(txid), block=block)
            self._take(channel, Step((event,)))

    def note_funding_spend(self, channel_id: bytes, txid: bytes | None, block: BlockRef | None = None) -> None:
        """Record what the own tower says: which transaction spends the funding output now (None: none), in which block.

        What is known already is not stored again. A spend that is gone opens nothing (U6), but the channel counts as
        unspent for whatever must be published in time.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            self._take(channel, publishing.funding_spend(self._seat(channel), txid, block))

    def propose_rescue(self, channel_id: bytes, amounts: tuple[int, int]) -> list[Message]:
        """Sign a split of a confirmed commitment at once instead of after T (flag rescue_leaf); see `rescuing`.

        Amounts of A and B in satoshi; the rest of the contest output is the fee. The peer's split is signed if it
        gives this side what the settlement would, or if `approve_close` named its amounts.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            return self._take(channel, rescuing.propose_rescue(self._seat(channel), amounts))

    def rescue_transaction(self, channel_id: bytes) -> bytes | None:
        """The complete joint settlement, ready for broadcast."""
        rescue = self.channel(channel_id).rescue
        return rescue.raw if rescue is not None else None
