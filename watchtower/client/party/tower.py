"""What a party tells its own tower, and what it learns from it."""

from __future__ import annotations

from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.errors import MalformedInput
from domain.events import ReportedBy, TowerAcknowledged
from watchtower.client.party.core import PartyCore
from watchtower.client.protocol import freezing, uploads
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.seat import Step
from watchtower.wire.api import RegisterRequest, RevocationRequest, UpdateRequest


class PartyTower(PartyCore):
    """The part of `ChannelParty` that speaks with its tower."""

    def registration(self, channel_id: bytes, funding_tx: bytes | None = None) -> RegisterRequest:
        """The body that registers the channel at the party's own tower. Holds a secret: never log it."""
        with self._mutex:
            channel = self.channel(channel_id)
            raw = funding_tx or channel.funding_tx or channel.prepared_tx
            first = self.state(channel_id, 0)
            return uploads.registration(self._seat(channel), first, self._keys.of(channel.channel_index).sweep_spk, raw)

    def update_body(self, channel_id: bytes, sequence: int | None = None) -> UpdateRequest:
        """The upload of a state (default: the newest) with the peer's revocation of its predecessor."""
        with self._mutex:
            channel = self.channel(channel_id)
            newest = channel.state if sequence in (None, channel.sequence) else None
            state = newest or self.state(channel_id, channel.sequence if sequence is None else sequence)
            return uploads.update(self._seat(channel), state)

    def cut_short_body(self, channel_id: bytes) -> UpdateRequest | None:
        """The upload of a state that was accepted and not completed, and is being published; None if there is none.

        Of the peer's a tower takes it once it is on chain. Of an own one it has to be there before: then it is whole,
        with the signature that the peer never got, and the same at every call.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            state = channel.accepted
            if state is None:
                return None
            seat = self._seat(channel)
            return uploads.update(seat, state if state.by is seat.peer else uploads.completed(seat, state))

    def release_body(self, channel_id: bytes, sequence: int) -> RevocationRequest:
        """The record for the tower that an own state was revoked; carries no secret."""
        with self._mutex:
            return uploads.own_release(self._seat(self.channel(channel_id)), sequence)

    def peer_release_body(self, channel_id: bytes, sequence: int) -> RevocationRequest:
        """The peer's revocation of a state by itself, for a tower that takes no more states. Holds a secret."""
        with self._mutex:
            return uploads.peer_release(self._seat(self.channel(channel_id)), sequence)

    def acknowledge(self, channel_id: bytes, signed: SignedReceipt, upload_sha256: bytes) -> None:
        """Record that a tower holds an upload durably: with the peer's revocation the state is final now (U4).

        The receipt of the registration stands for state 0. Raises `InvalidSignature` or `MalformedInput` for a receipt
        that is not good or is about another upload; then nothing is recorded.
        """
        receipt = signed.verified()
        with self._mutex:
            channel = self.channel(channel_id)
            if (receipt.subject, receipt.upload_sha256) != (channel.channel_id, upload_sha256):
                raise MalformedInput("the receipt is about another channel or another upload")
            if not _says_more(receipt, channel):
                return
            event = TowerAcknowledged(
                recorded_at=self._clock.wall_microseconds(),
                tower_id=receipt.tower_id,
                sequence=0 if receipt.is_registration else receipt.seq,
                upload_sha256=upload_sha256,
                receipt=signed.body,
                receipt_sig=signed.signature,
            )
            self._take(channel, Step((event,)))

    def receipts(self, channel_id: bytes) -> list[SignedReceipt]:
        """All receipts of a channel, oldest first, read from the log."""
        payloads = (event.payload for event in self._store.read_stream(self.channel(channel_id).stream))
        return [
            SignedReceipt(each.receipt, each.receipt_sig)
            for each in payloads
            if isinstance(each, TowerAcknowledged) and each.receipt
        ]

    def note_tower_report(self, channel_id: bytes, sequence: int) -> None:
        """The own tower says which state is its newest (-1: it has none).

        A higher one than this log knows freezes the channel and raises `ChannelNotReady`. For a restored channel the
        peer's agreement is needed, too: a tower may lag behind by the one state whose upload was cut off.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            self._reported[channel.stream] = sequence
            if sequence > channel.signed_sequence:
                self._take(channel, freezing.data_loss(self._seat(channel), sequence))

    def note_data_loss(self, channel_id: bytes, sequence: int) -> None:
        """Somebody trustworthy knows state `sequence`, this log does not: freeze and raise `ChannelNotReady`."""
        with self._mutex:
            channel = self.channel(channel_id)
            self._take(channel, freezing.data_loss(self._seat(channel), sequence))

    def note_restored(self) -> None:
        """This party was started from a backup: freeze every channel until the newest state is known again."""
        with self._mutex:
            for channel in self.channels():
                self._take(channel, freezing.restored(self._seat(channel)))

    def unfreeze(self, channel_id: bytes, sequence: int, reported_by: ReportedBy = ReportedBy.OPERATOR) -> None:
        """Thaw a restored channel on the word of whoever reports that `sequence` is the newest state.

        Without a call of this the peer's next `reestablish` thaws the channel if it agrees with the log (and with the
        tower, if there is one). Whoever calls it answers for the number: a wrong one can cost the channel.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            self._take(channel, freezing.unfreeze(self._seat(channel), sequence, reported_by))


def _says_more(receipt: LogReceipt, channel: PartyChannel) -> bool:
    """Whether a receipt is worth an event: a later state, the same one with its revocation, or a new epoch."""
    held = dict(channel.receipts).get(receipt.tower_id)
    if held is None:
        return True
    last = held.read()
    if receipt.epoch != last.epoch:
        return receipt.epoch > last.epoch
    if receipt.is_registration or last.is_registration:
        return last.is_registration and not receipt.is_registration
    return (receipt.seq, receipt.position) > (last.seq, last.position)
