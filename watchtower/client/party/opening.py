"""What a party does around an opening apart from its messages: keys to agree on, the prepared funding, giving up."""

from __future__ import annotations

from domain.contract import keys
from domain.contract.scripts import funding_output
from domain.errors import ChannelNotReady, MalformedInput
from domain.events import ChannelAbandoned, FundingBroadcast, Source
from domain.events.enums import AbandonReason
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client.party.core import PartyCore
from watchtower.client.protocol import opening
from watchtower.client.protocol.seat import Step
from watchtower.wire.signed_request import UnsignedRequest


class PartyOpening(PartyCore):
    """The part of `ChannelParty` for whoever opens a channel."""

    def next_funding_key(self) -> bytes:
        """The funding key (33 bytes) of this party's next channel, as opener or acceptor. Nothing is used up.

        Tell it the other party beforehand: both compare it with the key that the opening brings.
        """
        with self._mutex:
            return self._keys.upcoming().block.fund

    def next_auth_key(self) -> bytes:
        """The auth key (x-only, 32 bytes) of this party's next channel: what a tower's operator allows to register."""
        with self._mutex:
            return self._keys.upcoming().block.auth

    def sign_early(self, request: UnsignedRequest) -> tuple[bytes, bytes]:
        """As `sign_request`, with the auth key of the next channel: for requests before there is one."""
        with self._mutex:
            own = self._keys.upcoming()
            return own.block.auth, keys.sign_schnorr(own.secrets.auth, request.hash, self._entropy())

    def note_prepared(self, channel_id: bytes, unsigned: bytes, vout: int) -> None:
        """Keep the funding transaction that a wallet has prepared, and with it fix the outpoint.

        From here a repetition after a crash goes on with the same transaction. Raises `MalformedInput` unless output
        `vout` pays the capacity to the funding script.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            seat, tx = self._seat(channel), Transaction.parse(unsigned)
            paid = tx.outputs[vout] if vout < len(tx.outputs) else None
            spk = funding_output(channel.params).spk
            if paid is None or (paid.value, paid.spk) != (channel.params.capacity, spk):
                raise MalformedInput(f"output {vout} does not pay {channel.params.capacity} sat to the funding script")
            opening.fix_funding(seat, tx.txid, vout)
            named = channel.params.with_funding(tx.txid, vout)
            event = FundingBroadcast(
                recorded_at=seat.now,
                outpoint=named.funding_outpoint,
                channel_id=named.channel_id,
                source=Source.CLIENT,
                raw=unsigned,
            )
            self._take(channel, Step((event,)))

    def abandon(self, channel_id: bytes) -> None:
        """Give up an opening whose funding transaction has no signature: no money has moved, and none will.

        Raises `ChannelNotReady` once it is signed, as far as this side can know: only the opener sees it, the acceptor
        learns of it from its tower or from a further state. The same again changes nothing.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            if channel.funding_tx is not None:
                raise ChannelNotReady("the funding transaction is signed; close the channel instead")
            # The own tower takes an opener's channel before the signature, an acceptor's only once it sees the funding.
            held = channel.own_side is Side.B and bool(channel.acknowledged)
            if channel.sequence > 0 or held or channel.had_spend:
                raise ChannelNotReady("the channel is in use, its funding output may hold money; close it instead")
            if channel.abandoned:
                return
            now = self._clock.wall_microseconds()
            self._take(channel, Step((ChannelAbandoned(recorded_at=now, reason=AbandonReason.OWNER),)))
