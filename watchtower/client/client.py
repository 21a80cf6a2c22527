"""`StateChannelClient`: the documented methods over a tower's HTTP API.

A client without a party carries what it is given; a client with a `ChannelParty` also makes the uploads. After
`TowerUnreachable` the same call may be repeated: identical bytes are stored once.
"""

from __future__ import annotations

import httpx
import msgspec

from domain.contract.descriptors import with_checksum
from domain.contract.params import ChannelParams as ProtocolParams
from domain.contract.params import check_params
from domain.contract.scripts import funding_descriptor
from domain.contract.state import StateHeader, StateSignatures
from domain.errors import InvalidParams, InvalidState
from watchtower.client.config import StateChannelConfig
from watchtower.client.disputes import Closer, DisputeCalls
from watchtower.client.errors import ChannelIsClosed, ChannelNotFound, SequenceConflict
from watchtower.client.liquidity import ChannelLiquidity, TotalLiquidityBody
from watchtower.client.party import ChannelParty
from watchtower.client.preimages import PreimageCalls
from watchtower.client.session import is_replayed, read
from watchtower.client.types import (
    TAPROOT,
    ChannelInfo,
    ChannelParams,
    ChannelResult,
    FundingStatus,
    StateUpdate,
    UpdateResult,
)
from watchtower.client.uploads import body_sha256
from watchtower.wire.api import (
    RegisterRequest,
    RevocationRequest,
    SignatureBody,
    TimelineEntry,
    UpdateRequest,
)


class StateChannelClient(DisputeCalls, PreimageCalls):
    """Talks to one tower. Use as an async context manager, or call `connect` and `disconnect`."""

    def __init__(
        self,
        config: StateChannelConfig | None = None,
        *,
        url: str = "http://127.0.0.1:9815",
        token: str = "",
        party: ChannelParty | None = None,
        closer: Closer | None = None,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`party` makes the uploads, `closer` reaches the peer for a cooperative close, `auth` replaces the token."""
        super().__init__(config, url=url, token=token, party=party, auth=auth, transport=transport)
        self.closer = closer

    async def create_channel(self, params: ChannelParams, registration: RegisterRequest) -> ChannelResult:
        """Register a channel whose state 0 is complete. `params` is compared with the registration.

        Raises `InvalidParams` if they differ or break this client's limits, `FundingRefused` if the tower does
        not find the funding output.
        """
        self._compare(params, registration)
        return await self.register_channel(registration)

    async def register_channel(self, registration: RegisterRequest) -> ChannelResult:
        """Put a channel under the tower's watch."""
        raw, answer = await self._call("POST", "/v1/channels", registration)
        info = read(raw, ChannelInfo)
        return ChannelResult(info.channel_id, info, answer.status_code == 201)

    async def update_state(self, update: StateUpdate) -> UpdateResult:
        """Store a complete state at the tower; durable when it returns. The same update again changes nothing.

        Raises `InvalidState` if the documented fields differ from the upload.
        """
        upload = update.upload
        if upload is None:
            upload = self._own_party().update_body(bytes.fromhex(update.channel_id), update.sequence_number)
        _compare_update(update, upload)
        return await self.upload_state(update.channel_id, upload)

    async def upload_state(self, channel_id: str, upload: UpdateRequest) -> UpdateResult:
        """Store a complete state as a party made it (`ChannelParty.update_body`)."""
        raw, answer = await self._call("POST", f"/v1/channels/{channel_id}/states", upload)
        return msgspec.structs.replace(read(raw, UpdateResult), duplicate=is_replayed(answer))

    async def revoke_state(self, channel_id: str, revocation: RevocationRequest) -> UpdateResult:
        """Store the counterparty's secret of a state, or that the own side released one."""
        raw, answer = await self._call("POST", f"/v1/channels/{channel_id}/revocations", revocation)
        return msgspec.structs.replace(read(raw, UpdateResult), duplicate=is_replayed(answer))

    async def get_channel_info(self, channel_id: str) -> ChannelInfo:
        """A channel by id or unambiguous prefix; `ChannelNotFound`."""
        raw, _ = await self._call("GET", f"/v1/channels/{channel_id}")
        return read(raw, ChannelInfo)

    async def get_funding_status(self, channel_id: str) -> FundingStatus:
        """Where the funding output stands."""
        raw, _ = await self._call("GET", f"/v1/channels/{channel_id}/funding")
        return read(raw, FundingStatus)

    async def get_liquidity(self, channel_id: str) -> ChannelLiquidity:
        """What each side can spend and receive in the next state, and what each way to close costs."""
        raw, _ = await self._call("GET", f"/v1/channels/{channel_id}/liquidity")
        return read(raw, ChannelLiquidity)

    async def get_total_liquidity(self) -> TotalLiquidityBody:
        """Sums over all channels that are not over; `own` is the side that the tower protects."""
        raw, _ = await self._call("GET", "/v1/liquidity")
        return read(raw, TotalLiquidityBody)

    async def list_channels(self, status: str | None = None) -> list[ChannelInfo]:
        """All channels of the tower."""
        found: list[ChannelInfo] = []
        after: str | None = None
        while True:
            query = {name: value for name, value in (("after", after), ("status", status)) if value is not None}
            raw, _ = await self._call("GET", "/v1/channels", query=query)
            page = read(raw, _Page)
            found += page.channels
            if page.next is None:
                return found
            after = page.next

    async def get_timeline(self, channel_id: str) -> list[TimelineEntry]:
        """The history of a channel, oldest first."""
        found: list[TimelineEntry] = []
        after = 0
        while True:
            query = {"after": str(after)}
            raw, _ = await self._call("GET", f"/v1/channels/{channel_id}/timeline", query=query)
            page = read(raw, _History)
            found += page.entries
            if page.next is None:
                return found
            after = page.next

    async def synchronize(self, channel_id: bytes, funding_tx: bytes | None = None) -> UpdateResult:
        """Bring the tower to where the party stands: registration, states, revocations; then they are final.

        May be called at any time, also after a crash: what the tower has is not sent again. If the tower knows a
        newer state than the party, the party's log is an old copy: the channel freezes, `ChannelNotReady`. If the
        channel closes already, the peer's revocations are delivered and `ChannelIsClosed` is raised. Preimages go
        both ways.
        """
        party = self._own_party()
        name = channel_id.hex()
        registration = party.registration(channel_id, funding_tx)
        try:
            info = await self.get_channel_info(name)
        except ChannelNotFound:
            info = (await self.register_channel(registration)).info
        if info.current_sequence > party.channel(channel_id).sequence:
            party.note_data_loss(channel_id, info.current_sequence)
        party.acknowledge(channel_id, self._tower_id, 0, body_sha256(registration))
        result = UpdateResult(info.channel_id, info.current_sequence, info.final_sequence)
        # The state that the tower has may lack the revocation that arrived later, so it is sent once more.
        for sequence in range(max(1, info.current_sequence), party.channel(channel_id).sequence + 1):
            upload = party.update_body(channel_id, sequence)
            try:
                result = await self.upload_state(name, upload)
            except ChannelIsClosed:
                await self._reveal_late(channel_id, info.final_sequence)
                await self.exchange_preimages(channel_id)
                raise
            party.acknowledge(channel_id, self._tower_id, sequence, body_sha256(upload))
        released = party.channel(channel_id).own_released
        if released >= 0:
            await self.revoke_state(name, party.release_body(channel_id, released))
        await self.exchange_preimages(channel_id)
        return result

    async def _reveal_late(self, channel_id: bytes, first: int) -> None:
        """Deliver the peer's secrets from state `first` on: they turn its close into a breach (protocol 7.2)."""
        party = self._own_party()
        for sequence in range(first, party.channel(channel_id).peer_revoked + 1):
            try:
                await self.revoke_state(channel_id.hex(), party.peer_release_body(channel_id, sequence))
            except SequenceConflict:
                return  # the tower wants no secrets beyond the state that was published

    def _compare(self, params: ChannelParams, registration: RegisterRequest) -> None:
        protocol = ProtocolParams.decode(bytes(registration.params))
        check_params(protocol, self.config.params_policy)
        wanted = [(who.pubkey, who.initial_balance) for who in params.participants]
        balances = StateHeader.decode(bytes(registration.state.header)).balances
        found = [(protocol.keys_a.fund.hex(), balances[0]), (protocol.keys_b.fund.hex(), balances[1])]
        if wanted != found:
            raise InvalidParams("participants differ from the keys or balances of the registration (A first)")
        if params.challenge_period != protocol.challenge_period:
            raise InvalidParams(
                f"challenge_period is {params.challenge_period}, the channel has {protocol.challenge_period}"
            )
        own = {funding_descriptor(protocol), funding_descriptor(protocol, musig=False)}
        if params.funding_script not in {TAPROOT, *own, *(with_checksum(form) for form in own)}:
            raise InvalidParams(
                f"funding_script is {params.funding_script[:600]!r}; this channel has {funding_descriptor(protocol)!r}"
            )


class _Page(msgspec.Struct):
    channels: list[ChannelInfo]
    next: str | None


class _History(msgspec.Struct):
    entries: list[TimelineEntry]
    next: int | None


def _compare_update(update: StateUpdate, upload: UpdateRequest) -> None:
    header = StateHeader.decode(bytes(upload.state.header))
    if update.sequence_number != header.seq:
        raise InvalidState(f"sequence_number is {update.sequence_number}, the signed state is {header.seq}")
    if tuple(update.balances) != header.balances:
        raise InvalidState(f"balances are {list(update.balances)}, the signed state has {list(header.balances)}")
    if update.state_data.encode() != bytes(upload.state.state_data):
        raise InvalidState("state_data differs from that of the signed state")
    signed = tuple(_signature_text(each) for each in (upload.state.signatures.a, upload.state.signatures.b))
    if update.signatures and tuple(update.signatures) != signed:
        raise InvalidState("signatures differ from those of the signed state (A first, 512 digits each)")


def _signature_text(body: SignatureBody) -> str:
    return StateSignatures(body.state, body.settle_a, body.settle_b, body.commit_peer).encode().hex()
