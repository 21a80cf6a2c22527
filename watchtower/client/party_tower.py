"""What a party tells its own tower, and what it learns from it."""

from __future__ import annotations

from domain.events import ReportedBy, TowerAcknowledged
from watchtower.client import freezing, uploads
from watchtower.client.party_core import PartyCore
from watchtower.client.seat import Step
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

    def release_body(self, channel_id: bytes, sequence: int) -> RevocationRequest:
        """The record for the tower that an own state was revoked; carries no secret."""
        with self._mutex:
            return uploads.own_release(self._seat(self.channel(channel_id)), sequence)

    def peer_release_body(self, channel_id: bytes, sequence: int) -> RevocationRequest:
        """The peer's revocation of a state by itself, for a tower that takes no more states. Holds a secret."""
        with self._mutex:
            return uploads.peer_release(self._seat(self.channel(channel_id)), sequence)

    def acknowledge(self, channel_id: bytes, tower_id: bytes, sequence: int, upload_sha256: bytes) -> None:
        """Record that a tower holds a state durably: with the peer's revocation it is final now (U4)."""
        with self._mutex:
            channel = self.channel(channel_id)
            if dict(channel.acknowledged).get(tower_id, -1) >= sequence:
                return
            event = TowerAcknowledged(
                recorded_at=self._clock.wall_microseconds(),
                tower_id=tower_id,
                sequence=sequence,
                upload_sha256=upload_sha256,
                receipt=b"",
                receipt_sig=b"",
            )
            self._take(channel, Step((event,)))

    def note_tower_report(self, channel_id: bytes, sequence: int) -> None:
        """The own tower says which state is its newest (-1: it has none).

        A higher one than this log knows freezes the channel and raises `ChannelNotReady`. For a restored channel the
        peer's agreement is needed, too: a tower may lag behind by the one state whose upload was cut off.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            self._reported[channel.stream] = sequence
            if sequence > channel.sequence:
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
