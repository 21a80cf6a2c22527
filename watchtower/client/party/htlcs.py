"""HTLCs of a party: single operations, several in one update, and when the channel must go on chain for them."""

from __future__ import annotations

from domain.contract.conditions import Condition, ConditionKey
from domain.errors import MalformedInput
from domain.events import Source
from domain.expiry import must_go_on_chain
from watchtower.client.party.core import PartyCore
from watchtower.client.protocol import htlcs
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.client.protocol.messages import Message


class PartyHtlcs(PartyCore):
    """The part of `ChannelParty` for conditional payments. Each call is an offer of the next state.

    It goes out of turn, too: the peer hands over if it agrees. Refusals are those of `htlcs.change`.
    """

    def change(self, channel_id: bytes, wanted: Change) -> list[Message]:
        """Offer one state with several changes; the messages of one change belong together, in this order."""
        with self._mutex:
            channel = self.channel(channel_id)
            return self._take(channel, htlcs.change(self._seat(channel), wanted))

    def add_htlc(
        self, channel_id: bytes, amount: int, payment_hash: bytes, expiry: int, note: bytes | None = None
    ) -> list[Message]:
        """Offer an HTLC of `amount` satoshi to the peer, until height `expiry`; `note` goes to the peer unread."""
        return self.change(channel_id, Change(add=(NewHtlc(amount, payment_hash, expiry, note),)))

    def fulfil_htlc(self, channel_id: bytes, key: ConditionKey, preimage: bytes) -> list[Message]:
        """Take an incoming HTLC with its preimage, which is stored first and then shown to the peer."""
        return self.change(channel_id, Change(fulfil=((key, preimage),)))

    def fail_htlc(self, channel_id: bytes, key: ConditionKey, reason: str) -> list[Message]:
        """Give an incoming HTLC back; the peer gets the reason."""
        return self.change(channel_id, Change(fail=((key, reason),)))

    def expire_htlc(self, channel_id: bytes, key: ConditionKey) -> list[Message]:
        """Take an own HTLC back after its expiry height, if the peer agrees that it is too late."""
        return self.change(channel_id, Change(expire=(key,)))

    def learn_preimage(self, channel_id: bytes, preimage: bytes, source: Source = Source.CLIENT) -> None:
        """Store a preimage; `source` MEMPOOL or BLOCK says that it is public."""
        with self._mutex:
            channel = self.channel(channel_id)
            self._take(channel, htlcs.learn(self._seat(channel), preimage, source))

    def preimage(self, payment_hash: bytes) -> bytes | None:
        """The preimage of a payment hash, if this party ever learned it in any channel."""
        with self._mutex:
            return self._known.get(bytes(payment_hash))

    def find_htlcs(self, channel_id: bytes, payment_hash: bytes) -> tuple[Condition, ...]:
        """The HTLCs of the newest complete state with this payment hash."""
        conditions = self.channel(channel_id).conditions
        return tuple(c for c in conditions if c.is_htlc and c.hash == payment_hash)

    def take_failure(self, payment_hash: bytes) -> str | None:
        """Why the peer failed the last HTLC with this hash, in its own words, once; None after a restart."""
        with self._mutex:
            return self._slips.take_failure(payment_hash)

    def note_height(self, height: int) -> None:
        """Tell the height of the active chain. Until the first call, rules about heights are not applied."""
        if height < 0:
            raise MalformedInput(f"a height is not negative, got {height}")
        with self._mutex:
            self._height = height

    def must_go_on_chain(self, channel_id: bytes, height: int) -> tuple[Condition, ...]:
        """The HTLCs for whose sake the channel must be closed with its newest state now (`domain.expiry`)."""
        with self._mutex:
            channel = self.channel(channel_id)
            period = channel.params.challenge_period
            return must_go_on_chain(height, channel.conditions, channel.own_side, self._known.keys(), period)
