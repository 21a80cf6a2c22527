"""The calls of `StateChannelClient` that concern the own tower alone: registration, uploads, questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from domain.as_of import AsOf
from domain.chain import BlockRef, from_display
from domain.contract.header import StateHeader
from domain.contract.params import ChannelParams
from domain.contract.receipts import SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from domain.status import ChannelStatus
from watchtower.client.errors import (
    AWAY,
    ChannelIsClosed,
    ChannelNotFound,
    ConfigurationError,
    ReceiptRefused,
    SequenceConflict,
)
from watchtower.client.ids import channel_name
from watchtower.client.liquidity import ChannelLiquidity, TotalLiquidityBody
from watchtower.client.party.party import ChannelParty
from watchtower.client.past import LogPoint, parameters
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.tower.following import follow
from watchtower.client.tower.legs import QUIET
from watchtower.client.tower.receipt_calls import ReceiptCalls, Told
from watchtower.client.tower.receipts import Expected, ReceiptText
from watchtower.client.tower.request_signing import WHOLE_ID
from watchtower.client.tower.session import is_replayed, read
from watchtower.client.tower.spend_watch import SpendWatch
from watchtower.client.types import ChannelInfo, ChannelResult, FundingStatus, UpdateResult
from watchtower.wire.api import RegisterRequest, RevocationRequest, TimelineEntry, UpdateRequest
from watchtower.wire.deposits import sha256_of_registration, sha256_of_update
from watchtower.wire.events import EventBody
from watchtower.wire.restores import ConfirmationRequest

LOOK_AGAIN = 5.0
"""Seconds after which a waiting client looks again: a funding grows deeper without an event of its channel."""


class Delivered(msgspec.Struct, frozen=True):
    """What the tower was brought to in this session; `own_released` is the highest own state it knows as revoked."""

    result: UpdateResult
    own_released: int


class TowerCalls(ReceiptCalls):
    """What a tower stores and answers."""

    _delivered: dict[bytes, Delivered]
    _spend_watch: SpendWatch | None = None

    async def register_channel(self, registration: RegisterRequest) -> ChannelResult:
        """Put a channel under the tower's watch; `ReceiptRefused` if it did not answer with a good receipt."""
        raw, answer = await self._call("POST", "/v1/channels", registration)
        info = read(raw, ChannelInfo)
        receipt = self._take(read(raw, Told).receipt, self._expected_registration(registration))
        return ChannelResult(info.channel_id, info, answer.status_code == 201, receipt=receipt.encode().hex())

    async def upload_state(self, channel_id: str, upload: UpdateRequest) -> UpdateResult:
        """Store a complete state as a party made it (`ChannelParty.update_body`).

        Raises `ReceiptRefused` if the tower did not answer with a good receipt: then the state is not armed.
        """
        stored, told = await self._store_state(channel_id, upload)
        signed = self._take(told, self._expected_state(upload))
        return msgspec.structs.replace(stored, receipt=signed.encode().hex())

    async def revoke_state(self, channel_id: str, revocation: RevocationRequest) -> UpdateResult:
        """Store the counterparty's secret of a state, or that the own side released one."""
        raw, answer = await self._call("POST", f"/v1/channels/{channel_name(channel_id)}/revocations", revocation)
        return read(raw, _Stored).result(duplicate=is_replayed(answer))

    async def confirm_holdings(self, channel_id: str, confirmation: ConfirmationRequest) -> None:
        """Tell a restored tower that it lacks nothing of a channel; `SequenceConflict` if it does."""
        await self._call("POST", f"/v1/channels/{channel_name(channel_id)}/confirmations", confirmation)

    async def get_channel_info(self, channel_id: str, as_of: AsOf | None = None) -> ChannelInfo:
        """A channel by id or unambiguous prefix; `ChannelNotFound`.

        `as_of`: as it was known at that point of the tower's log; `PointNotFound`.
        """
        raw, _ = await self._call("GET", f"/v1/channels/{channel_name(channel_id)}", query=parameters(as_of))
        info = read(raw, ChannelInfo)
        if as_of is None and self._is_spend_news(info):
            await self.get_funding_status(info.channel_id)
        return info

    async def get_funding_status(self, channel_id: str) -> FundingStatus:
        """Where the funding output stands. A party of this client makes no states from a spend on (rule U6)."""
        raw, _ = await self._call("GET", f"/v1/channels/{channel_name(channel_id)}/funding")
        found = read(raw, FundingStatus)
        self._note_spend(found)
        return found

    async def get_liquidity(self, channel_id: str) -> ChannelLiquidity:
        """What each side can spend and receive in the next state, and what each way to close costs."""
        raw, _ = await self._call("GET", f"/v1/channels/{channel_name(channel_id)}/liquidity")
        return read(raw, ChannelLiquidity)

    async def get_total_liquidity(self) -> TotalLiquidityBody:
        """Sums over all channels that are not over; `own` is the side that the tower protects."""
        raw, _ = await self._call("GET", "/v1/liquidity")
        return read(raw, TotalLiquidityBody)

    async def list_channels(self, status: str | None = None, as_of: AsOf | None = None) -> list[ChannelInfo]:
        """All channels of the tower; with `as_of` those that it had at that point of its log, for operators."""
        found: list[ChannelInfo] = []
        after: str | None = None
        while True:
            query = {name: value for name, value in (("after", after), ("status", status)) if value is not None}
            raw, _ = await self._call("GET", "/v1/channels", query=query | parameters(as_of))
            page = read(raw, _Page)
            as_of = _same_point(page.as_of, as_of)
            found += page.channels
            if page.next is None:
                return found
            after = page.next

    async def get_timeline(self, channel_id: str, as_of: AsOf | None = None) -> list[TimelineEntry]:
        """The history of a channel, oldest first; with `as_of` up to that point of the tower's log."""
        found: list[TimelineEntry] = []
        after = 0
        while True:
            query = {"after": str(after), **parameters(as_of)}
            raw, _ = await self._call("GET", f"/v1/channels/{channel_name(channel_id)}/timeline", query=query)
            page = read(raw, _History)
            as_of = _same_point(page.as_of, as_of)
            found += page.entries
            if page.next is None:
                return found
            after = page.next

    async def wait_for_status(self, channel_id: str, *status: str, timeout_ms: int | None = None) -> ChannelInfo:
        """The channel once it has one of these statuses ("ACTIVE": its funding is confirmed and updates are taken).

        It is looked at whenever the tower tells an event of it, and every five seconds: blocks alone make a funding
        deep enough. A channel that the tower does not know yet is waited for, too, and so is a tower that is away for
        a while once it has answered. Raises `TimeoutError` after `timeout_ms`, which says what the channel is; None
        waits for ever.
        """
        unknown = set(status) - set(ChannelStatus)
        if unknown or not status:
            raise ConfigurationError(f"a status is one of {', '.join(ChannelStatus)}; got {sorted(unknown) or 'none'}")
        news, info, asked = asyncio.Event(), None, False
        limit = asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000)
        try:
            async with limit:
                info, asked = await self._find_channel(channel_id), True
                # One that is not known has no stream of its own yet.
                events = self.follow(channel_id, 0) if info is not None else self._follow_all(channel_id)
                listener = asyncio.create_task(_ring(events, news))
                try:
                    while info is None or info.status not in status:
                        ringing = asyncio.create_task(news.wait())
                        try:
                            await asyncio.wait(
                                (ringing, listener), timeout=LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED
                            )
                        finally:
                            ringing.cancel()
                        if listener.done():
                            listener.result()
                        news.clear()
                        with contextlib.suppress(*AWAY):
                            info = await self._find_channel(channel_id)
                    return info
                finally:
                    listener.cancel()
                    await asyncio.gather(listener, return_exceptions=True)
        except TimeoutError:
            if not limit.expired():
                raise
            found = "not known to the tower" if asked else "not told by the tower"
            found, wanted = found if info is None else info.status, " or ".join(status)
            raise TimeoutError(f"channel {channel_id[:16]} is {found} after {timeout_ms} ms, not {wanted}") from None

    async def synchronize(self, channel_id: bytes, funding_tx: bytes | None = None) -> UpdateResult:
        """Bring the tower to where the party stands: registration, states, revocations; then they are final.

        May be called at any time, also after a crash: what the tower has is not sent again. If the tower knows a
        newer state than the party, the party's log is an old copy: the channel freezes, `ChannelNotReady`. If the
        channel closes already, the peer's revocations are delivered and `ChannelIsClosed` is raised. Preimages go
        both ways.

        Raises `ReceiptRefused` if a receipt is missing or wrong; everything was delivered all the same.
        """
        known = self._delivered.get(channel_id)
        if known is not None and funding_tx is None:
            # The tower stands elsewhere, or lost the channel with its newest events: look before more is sent.
            with contextlib.suppress(SequenceConflict, ChannelNotFound):
                result = await self._deliver_news(channel_id, known)
                if result is not None:
                    return result
        party = self._own_party()
        registration = party.registration(channel_id, funding_tx)
        try:
            info = await self.get_channel_info(channel_id.hex())
        except ChannelNotFound:
            raw, _ = await self._call("POST", "/v1/channels", registration)
            info, told = read(raw, ChannelInfo), read(raw, Told).receipt
            self._wake_spend_watch()
        else:
            told = None
        if info.current_sequence > party.channel(channel_id).signed_sequence:
            party.note_data_loss(channel_id, info.current_sequence)
        doubt = await self._acknowledge_registration(channel_id, registration, told)
        stored = UpdateResult(info.channel_id, info.current_sequence, info.final_sequence)
        # The state that the tower has may lack the revocation that arrived later, so it is sent once more.
        result, found = await self._deliver(channel_id, info.current_sequence, stored)
        # A release that came meanwhile waits for its successor: the tower is told of both the next time.
        released = min(party.channel(channel_id).own_released, result.sequence - 1)
        if released >= 0:
            await self.revoke_state(channel_id.hex(), party.release_body(channel_id, released))
        await self._deliver_cut_short(channel_id)
        await self.exchange_preimages(channel_id)
        doubt = doubt or found
        if doubt is not None:
            raise doubt
        self._delivered[channel_id] = Delivered(result, released)
        return result

    async def _deliver_news(self, channel_id: bytes, known: Delivered) -> UpdateResult | None:
        """What happened since the last time, without asking the tower where it stands; None if nothing did."""
        channel = self._own_party().channel(channel_id)
        newest = known.result.sequence
        if channel.sequence < newest or (channel.sequence, channel.own_released) == (newest, known.own_released):
            return None
        # A state that was stored as final carried the revocation of the one before.
        first = newest + 1 if known.result.final_sequence >= newest else newest
        result, doubt = await self._deliver(channel_id, first, known.result)
        if channel.own_released > known.own_released:
            body = self._own_party().release_body(channel_id, channel.own_released)
            await self.revoke_state(channel_id.hex(), body)
        if channel.conditions:
            await self.exchange_preimages(channel_id)
        if doubt is not None:
            raise doubt
        self._delivered[channel_id] = Delivered(result, channel.own_released)
        return result

    async def _deliver(
        self, channel_id: bytes, first: int, stored: UpdateResult
    ) -> tuple[UpdateResult, ReceiptRefused | None]:
        """Upload the complete states from `first` on; the last answer, `stored` if there is none.

        A missing or wrong receipt stops nothing: the tower gets everything, and the first doubt comes back.
        """
        party, result = self._own_party(), stored
        doubt: ReceiptRefused | None = None
        for sequence in range(max(1, first), party.channel(channel_id).sequence + 1):
            upload = party.update_body(channel_id, sequence)
            try:
                result, told = await self._store_state(channel_id.hex(), upload)
            except ChannelIsClosed:
                await self._reveal_late(channel_id, stored.final_sequence)
                await self._deliver_cut_short(channel_id)
                await self.exchange_preimages(channel_id)
                await self.get_funding_status(channel_id.hex())
                raise
            try:
                signed = self._acknowledge(party, channel_id, told, self._expected_state(upload))
                result = msgspec.structs.replace(result, receipt=signed.encode().hex())
            except ReceiptRefused as error:
                doubt = doubt or error
        return result, doubt

    async def _deliver_cut_short(self, channel_id: bytes) -> None:
        """A state that is published instead of completed: without it the tower cannot settle the close.

        An own one is brought before the tower sees its commitment, which it would not know for one.
        """
        upload = self._own_party().cut_short_body(channel_id)
        if upload is None:
            return
        sequence = StateHeader.decode(bytes(upload.state.header)).seq
        if sequence in self._own_party().channel(channel_id).published:
            await self._store_state(channel_id.hex(), upload)
            return
        spent = (await self.get_funding_status(channel_id.hex())).spent_by
        if spent is not None and spent.sequence == sequence:
            await self._store_state(channel_id.hex(), upload)

    async def _store_state(self, channel_id: str, upload: UpdateRequest) -> tuple[UpdateResult, ReceiptText | None]:
        raw, answer = await self._call("POST", f"/v1/channels/{channel_name(channel_id)}/states", upload)
        stored = read(raw, _Stored)
        return stored.result(duplicate=is_replayed(answer)), stored.receipt

    async def _acknowledge_registration(
        self, channel_id: bytes, registration: RegisterRequest, told: ReceiptText | None
    ) -> ReceiptRefused | None:
        """Keep the receipt of the registration; ask for it if the channel was registered before and none is held."""
        party, expected = self._own_party(), self._expected_registration(registration)
        try:
            if told is None:
                if self._tower_id in dict(party.channel(channel_id).acknowledged):
                    return None
                signed = await self._ask_again(channel_id.hex(), None)
                told = ReceiptText(signed.body.hex(), signed.signature.hex())
            self._acknowledge(party, channel_id, told, expected)
        except ReceiptRefused as error:
            return error
        return None

    def _acknowledge(
        self, party: ChannelParty, channel_id: bytes, told: ReceiptText | None, expected: Expected
    ) -> SignedReceipt:
        signed = self._take(told, expected)
        party.acknowledge(channel_id, signed, expected.upload_sha256)
        return signed

    def _expected_registration(self, request: RegisterRequest) -> Expected:
        subject = ChannelParams.decode(bytes(request.params)).channel_id
        return Expected(self._tower_id, subject, REGISTRATION_SEQ, sha256_of_registration(request))

    def _expected_state(self, upload: UpdateRequest) -> Expected:
        header = StateHeader.decode(bytes(upload.state.header))
        return Expected(self._tower_id, header.channel_id, header.seq, sha256_of_update(upload))

    def _follow_all(self, channel_id: str) -> AsyncIterator[EventBody]:
        """The events of all channels from the beginning, asked for with the key of one that is not registered yet."""
        about = bytes.fromhex(channel_id) if WHOLE_ID.fullmatch(channel_id) else None
        return follow(self._session(), "/v1/events", 0, about)

    def _is_spend_news(self, info: ChannelInfo) -> bool:
        """Whether the party's log says something else about the close of a channel than the tower does."""
        channel = self._party_channel(info.channel_id)
        if channel is None:
            return False
        return channel.spend is not None if info.status in QUIET else channel.confirmed is None

    def _note_spend(self, found: FundingStatus) -> None:
        channel = self._party_channel(found.channel_id)
        if channel is None:
            return
        spent, block = found.spent_by, None
        if spent is not None and spent.height is not None and spent.block_hash is not None:
            block = BlockRef(spent.height, from_display(spent.block_hash))
        txid = None if spent is None else from_display(spent.txid)
        self._own_party().note_funding_spend(channel.channel_id, txid, block)

    def _party_channel(self, channel_id: str) -> PartyChannel | None:
        if self.party is None:
            return None
        return next((each for each in self.party.channels() if each.channel_id.hex() == channel_id), None)

    def _wake_spend_watch(self) -> None:
        if self._spend_watch is not None:
            self._spend_watch.wake()

    async def _find_channel(self, channel_id: str) -> ChannelInfo | None:
        try:
            return await self.get_channel_info(channel_id)
        except ChannelNotFound:
            return None

    async def _reveal_late(self, channel_id: bytes, first: int) -> None:
        """Deliver the peer's secrets from state `first` on: they turn its close into a breach (protocol 7.2)."""
        party = self._own_party()
        for sequence in range(first, party.channel(channel_id).peer_revoked + 1):
            try:
                await self.revoke_state(channel_id.hex(), party.peer_release_body(channel_id, sequence))
            except SequenceConflict:
                return  # the tower wants no secrets beyond the state that was published


class _Stored(msgspec.Struct):
    """The tower's answer to a state or a revocation."""

    channel_id: str
    sequence: int
    final_sequence: int
    state_hash: str | None = None
    receipt: ReceiptText | None = None

    def result(self, *, duplicate: bool) -> UpdateResult:
        """The answer without its receipt, which was not checked yet."""
        return UpdateResult(self.channel_id, self.sequence, self.final_sequence, self.state_hash, duplicate)


class _Page(msgspec.Struct):
    channels: list[ChannelInfo]
    next: str | None
    as_of: LogPoint | None = None


class _History(msgspec.Struct):
    entries: list[TimelineEntry]
    next: int | None
    as_of: LogPoint | None = None


def _same_point(found: LogPoint | None, asked: AsOf | None) -> AsOf | None:
    """What to ask the following pages for: a height can mean another block by then, a position cannot."""
    return asked if found is None else AsOf(position=found.position)


async def _ring(events: AsyncIterator[EventBody], bell: asyncio.Event) -> None:
    async for _ in events:
        bell.set()
