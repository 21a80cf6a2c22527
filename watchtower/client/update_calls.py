"""The calls of `StateChannelClient` that make new states together with the peer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from domain.contract.conditions import Condition, ConditionKey, encode_conditions
from domain.contract.state import StateHeader, StateSignatures
from domain.errors import ChannelNotReady, Equivocation, InvalidState, MalformedInput, SequenceGap
from domain.status import ChannelStatus
from domain.units import Side
from watchtower.client.errors import NotConnected, StateChannelError
from watchtower.client.given import balance_pair, data_of, require_number, require_whole, texts
from watchtower.client.ids import channel_id_of, hash_of
from watchtower.client.party.party import ChannelParty
from watchtower.client.peers.port import Peer
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.contents import condition_of
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.client.protocol.messages import Message
from watchtower.client.tower.calls import TowerCalls
from watchtower.client.tower.finality import Finality
from watchtower.client.types import StateUpdate, UpdateResult
from watchtower.wire.api import SignatureBody, UpdateRequest

BEFORE_ACTIVE = (ChannelStatus.PROPOSED, ChannelStatus.FUNDING_BROADCAST)


class UpdateCalls(TowerCalls):
    """`peer` reaches the other party; what both completed goes to the tower before a call returns (rule U4)."""

    peer: Peer | None = None
    finality: Finality | None = None
    _active: set[bytes]

    async def update_state(self, update: StateUpdate) -> UpdateResult:
        """Make the next state with the peer and store it at the tower; final when it returns.

        `sequence_number` is that of the newest state plus one; the same update again changes nothing. Out of turn the
        peer is asked to hand over. Without a peer the complete state that `upload` or the party has is stored.

        Raises `SequenceGap` for another number, `Equivocation` for another content of a state that exists,
        `InvalidState` for content that breaks a rule, `ChannelNotReady` before the funding is confirmed, `PeerRefused`
        with the peer's reason, `PeerSilent`: then the same call may be repeated.
        """
        require_number("sequence_number", update.sequence_number)
        if update.upload is None and self.peer is not None:
            return await self._exchange(update)
        upload = update.upload
        if upload is None:
            upload = self._own_party().update_body(channel_id_of(update.channel_id), update.sequence_number)
        compare_update(update, upload)
        return await self.upload_state(update.channel_id, upload)

    async def approve_update(self, update: StateUpdate) -> None:
        """Agree beforehand to exactly this next state, though this side loses by it; the peer then makes it.

        Kept in memory; a new approval replaces it.
        """
        require_number("sequence_number", update.sequence_number)
        party, channel_id = self._own_party(), channel_id_of(update.channel_id)
        balances, state_data = balance_pair("balances", update.balances), data_of(update.state_data)

        def approve() -> None:
            conditions = _conditions(party, channel_id, update)
            with contextlib.suppress(AlreadyMade):
                _check_next(party, channel_id, update.sequence_number)
                party.approve(channel_id, balances, conditions, state_data)

        await asyncio.to_thread(approve)

    async def approve_close(self, channel_id: str, final_balances: Sequence[int]) -> None:
        """Agree beforehand to a cooperative close with these balances of A and B in satoshi, though it gives less.

        Kept in memory, until the next state is complete.
        """
        pair = balance_pair("final_balances", final_balances)
        await asyncio.to_thread(self._own_party().approve_close, channel_id_of(channel_id), pair)

    async def add_htlc(
        self, channel_id: str, amount: int, payment_hash: str, expiry: int, *, note: bytes | None = None
    ) -> UpdateResult:
        """Offer the peer `amount` satoshi against the preimage of `payment_hash`, until height `expiry`.

        An own HTLC that is pending with exactly these terms is not added again; whether one was fulfilled meanwhile
        tells `party.preimage`, so look before repeating a call whose outcome is unknown. `note` (≤ 4096 bytes) goes to
        the peer unread. Refusals are those of `update_state`.
        """
        require_whole("amount", amount)
        require_number("expiry", expiry)
        await self.get_state()  # tells the party the height
        wanted = NewHtlc(amount, hash_of(payment_hash), expiry, note)
        party, name = self._own_party(), channel_id_of(channel_id)
        before: list[int] = []

        def offer() -> list[Message]:
            # Asked again after a broken connection: by then the HTLC may be paid and gone, and is not due again.
            if _is_pending(party, name, wanted) or any(_was_added(party, name, wanted, first) for first in before):
                raise AlreadyMade
            before.append(party.channel(name).sequence)
            return party.change(name, Change(add=(wanted,)))

        return await self._change(name, offer)

    async def fulfil_htlc(self, channel_id: str, preimage: bytes) -> UpdateResult:
        """Take every HTLC that the peer offers against this preimage (32 bytes); it is stored first.

        `InvalidState` if none is pending, also when it was taken before.
        """
        payment_hash = sha256(preimage).digest()
        return await self._settle_htlcs(
            channel_id, payment_hash, lambda keys: Change(fulfil=tuple((key, preimage) for key in keys))
        )

    async def fail_htlc(self, channel_id: str, payment_hash: str, reason: str = "") -> UpdateResult:
        """Give every HTLC that the peer offers against this hash back; the peer gets the reason."""
        return await self._settle_htlcs(
            channel_id, hash_of(payment_hash), lambda keys: Change(fail=tuple((key, reason) for key in keys))
        )

    async def expire_htlc(self, channel_id: str, payment_hash: str) -> UpdateResult:
        """Take own HTLCs with this hash back after their expiry height, if the peer agrees that it is too late."""
        await self.get_state()  # tells the party the height
        return await self._settle_htlcs(
            channel_id, hash_of(payment_hash), lambda keys: Change(expire=tuple(keys)), own=True
        )

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    async def _exchange(self, update: StateUpdate) -> UpdateResult:
        party, channel_id = self._own_party(), channel_id_of(update.channel_id)
        balances, state_data = balance_pair("balances", update.balances), data_of(update.state_data)

        def offer() -> list[Message]:
            _check_next(party, channel_id, update.sequence_number)
            if update.signatures:
                raise InvalidState("signatures of a state that is not complete yet; leave them out, both parties sign")
            return party.offer(channel_id, balances, _conditions(party, channel_id, update), state_data)

        made = await self._advance(channel_id, offer)
        if not made:
            await asyncio.to_thread(_compare_complete, party, channel_id, update)
        return await self._result(channel_id, update.sequence_number, duplicate=not made)

    async def _settle_htlcs(
        self, channel_id: str, payment_hash: bytes, wanted: Callable[[list[ConditionKey]], Change], own: bool = False
    ) -> UpdateResult:
        party, name = self._own_party(), channel_id_of(channel_id)

        def offer() -> list[Message]:
            side = party.channel(name).own_side
            found = party.find_htlcs(name, payment_hash)
            keys = [condition.key for condition in found if (condition.offerer is side) is own]
            if not keys:
                raise InvalidState(f"no HTLC of {'this side' if own else 'the peer'} has hash {payment_hash.hex()}")
            return party.change(name, wanted(keys))

        return await self._change(name, offer)

    async def _change(self, channel_id: bytes, offer: Callable[[], Iterable[Message]]) -> UpdateResult:
        made = await self._advance(channel_id, offer)
        sequence = self._own_party().channel(channel_id).sequence
        return await self._result(channel_id, sequence, duplicate=not made)

    async def _advance(self, channel_id: bytes, offer: Callable[[], Iterable[Message]]) -> bool:
        """Run an exchange; False if the offer says that there is nothing to do any more."""
        if self.peer is None:
            raise NotConnected("this call needs a client that was made with a peer")
        await self._require_active(channel_id)
        try:
            await self.peer.advance(channel_id, offer)
        except AlreadyMade:
            return False
        return True

    async def _require_active(self, channel_id: bytes) -> None:
        """Ask the tower once, before the first exchange: a state that no tower takes helps nobody."""
        if channel_id in self._active:
            return
        info = await self.get_channel_info(channel_id.hex())
        if info.status in BEFORE_ACTIVE:
            raise ChannelNotReady(
                f"the channel is {info.status}: its funding is not confirmed deep enough; wait until it is ACTIVE "
                "(`wait_for_status`; `watchtower channel funding` tells how deep it is)"
            )
        self._active.add(channel_id)

    async def _result(self, channel_id: bytes, sequence: int, *, duplicate: bool) -> UpdateResult:
        """The result, once the tower holds the state, or may lack it (mode async)."""
        party = self._own_party()
        channel = party.channel(channel_id)
        if channel.final_sequence < sequence and self.finality is not None:
            self.finality.touch(channel)
            await self.finality.settle(channel_id)
        state = await asyncio.to_thread(party.state, channel_id, sequence)
        channel = party.channel(channel_id)
        return UpdateResult(
            channel_id.hex(),
            sequence,
            channel.final_sequence,
            state.content.state_hash.hex(),
            duplicate,
            self._held_receipt(channel, sequence),
        )

    def _held_receipt(self, channel: PartyChannel, sequence: int) -> str | None:
        """The receipt of a state if it is the newest one of this tower."""
        signed = dict(channel.receipts).get(self._tower_id)
        return signed.encode().hex() if signed is not None and signed.read().seq == sequence else None


def _is_pending(party: ChannelParty, channel_id: bytes, wanted: NewHtlc) -> bool:
    own, found = party.channel(channel_id).own_side, party.find_htlcs(channel_id, wanted.payment_hash)
    return any(_is_same(condition, wanted, own) for condition in found)


def _was_added(party: ChannelParty, channel_id: bytes, wanted: NewHtlc, first: int) -> bool:
    """Whether a complete state after `first` had it, read from the log."""
    own = party.channel(channel_id).own_side
    later = (state.content.read_conditions() for state in party.history(channel_id) if state.seq > first)
    return any(_is_same(condition, wanted, own) for conditions in later for condition in conditions)


def _is_same(condition: Condition, wanted: NewHtlc, own: Side) -> bool:
    terms = (condition.offerer, condition.hash, condition.amount, condition.expiry)
    return condition.is_htlc and terms == (own, wanted.payment_hash, wanted.amount, wanted.expiry)


class AlreadyMade(StateChannelError):
    """What was asked for is done already; never leaves the client."""


def compare_update(update: StateUpdate, upload: UpdateRequest) -> None:
    """Raise `InvalidState` unless the documented fields are those of a complete state."""
    header = StateHeader.decode(bytes(upload.state.header))
    if update.sequence_number != header.seq:
        raise InvalidState(f"sequence_number is {update.sequence_number}, the signed state is {header.seq}")
    if balance_pair("balances", update.balances) != header.balances:
        raise InvalidState(f"balances are {list(update.balances)}, the signed state has {list(header.balances)}")
    if data_of(update.state_data) != bytes(upload.state.state_data):
        raise InvalidState("state_data differs from that of the signed state")
    _compare_conditions(update, [condition_of(record) for record in upload.state.conditions])
    signed = [_signature_text(each) for each in (upload.state.signatures.a, upload.state.signatures.b)]
    if update.signatures and list(texts("signatures", update.signatures)) != signed:
        raise InvalidState("signatures differ from those of the signed state (A first, 512 digits each)")


def _compare_conditions(update: StateUpdate, signed: Sequence[Condition]) -> None:
    """Two states may differ in nothing but a payment hash: a record is compared whole, a descriptor by its hash."""
    if update.conditions is None:
        return
    wanted = _given_conditions(update.conditions)
    if encode_conditions(wanted) != encode_conditions(signed):
        raise InvalidState(f"the {len(wanted)} conditions given are not the {len(signed)} of the signed state")


def _check_next(party: ChannelParty, channel_id: bytes, number: int) -> None:
    newest = party.channel(channel_id).sequence
    if number <= newest:
        raise AlreadyMade
    if number != newest + 1:
        raise SequenceGap(f"state {newest + 1} comes next, sequence_number is {number}")


def _compare_complete(party: ChannelParty, channel_id: bytes, update: StateUpdate) -> None:
    try:
        upload = party.update_body(channel_id, update.sequence_number)
        compare_update(update, upload)
    except InvalidState as error:
        raise Equivocation(f"state {update.sequence_number} exists with other content: {error}") from None


def _conditions(party: ChannelParty, channel_id: bytes, update: StateUpdate) -> Sequence[Condition]:
    if update.conditions is None:
        return party.channel(channel_id).conditions
    return _given_conditions(update.conditions)


def _given_conditions(conditions: Sequence[Condition]) -> Sequence[Condition]:
    given: Sequence[object] = conditions
    wrong = [each for each in given if not isinstance(each, Condition)]
    if wrong:
        raise MalformedInput(f"conditions: `Condition` each, got {wrong[0]!r:.80}")
    return conditions


def _signature_text(body: SignatureBody) -> str:
    return StateSignatures(body.state, body.settle_a, body.settle_b, body.commit_peer).encode().hex()
