"""The SDK: the documented configuration, the documented calls, uploads that survive lost answers, typed errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from domain.contract.scripts import funding_descriptor
from domain.contract.state import StateSignatures
from domain.errors import ChannelNotReady, InvalidParams, InvalidState
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, make_party, open_pair
from tests.support.towers import TOKEN, TOWER_ID, Bench
from watchtower.client import (
    ChannelParams,
    ChannelParticipant,
    ChannelStatus,
    StateChannelClient,
    StateChannelConfig,
    StateUpdate,
)
from watchtower.client.errors import (
    BY_SLUG,
    ChannelNotFound,
    ConfigurationError,
    FundingRefused,
    NotConnected,
    TowerUnavailable,
    TowerUnreachable,
    Unauthorized,
    UnexpectedAnswer,
    WrongTower,
)
from watchtower.http.problems import TITLES
from watchtower.ports import StoreBusy

REGTEST = StateChannelConfig(network="regtest")
SIX = {
    "STATE_CHANNEL_NETWORK": "mainnet",
    "STATE_CHANNEL_TIMEOUT_MS": "30000",
    "STATE_CHANNEL_CHALLENGE_PERIOD": "144",
    "STATE_CHANNEL_FUNDING_THRESHOLD": "10000",
    "STATE_CHANNEL_MAX_VALUE": "100000000",
    "STATE_CHANNEL_TAPROOT_ENABLED": "true",
}


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def client_of(
    tower: Bench, pair: Pair | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> StateChannelClient:
    """A client of this tower, with B's party if there is a pair."""
    return StateChannelClient(
        REGTEST,
        url="http://tower",
        token=TOKEN,
        party=pair.b if pair else None,
        transport=transport or tower.transport(),
    )


class Unreliable(httpx.AsyncBaseTransport):
    """Delivers the n-th request of a synchronization and loses its answer; everything else is carried faithfully."""

    def __init__(self, inner: httpx.AsyncBaseTransport, lose: int) -> None:
        self.inner = inner
        self.lose = lose

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry or lose."""
        answer = await self.inner.handle_async_request(request)
        if request.url.path.endswith(("/info", "/funding", "/events")):
            return answer
        self.lose -= 1
        if self.lose == -1:
            raise httpx.ReadTimeout("lost")
        return answer


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────


def test_the_documented_defaults_and_variables() -> None:
    """No variables, and the six documented lines, both give the documented configuration."""
    assert StateChannelConfig.from_env({}) == StateChannelConfig()
    assert StateChannelConfig.from_env(SIX) == StateChannelConfig()
    assert msgspec.structs.asdict(StateChannelConfig()) == {
        "network": "mainnet",
        "timeout_ms": 30_000,
        "challenge_period": 144,
        "funding_threshold": 10_000,
        "max_channel_value": 100_000_000,
        "taproot_enabled": True,
    }


def test_every_variable_has_its_effect() -> None:
    """Other values arrive in their fields; an empty variable counts as absent."""
    changed = {
        "STATE_CHANNEL_NETWORK": "signet",
        "STATE_CHANNEL_TIMEOUT_MS": "500",
        "STATE_CHANNEL_CHALLENGE_PERIOD": "36",
        "STATE_CHANNEL_FUNDING_THRESHOLD": "20000",
        "STATE_CHANNEL_MAX_VALUE": "30000",
        "STATE_CHANNEL_TAPROOT_ENABLED": "FALSE",
    }
    expected = StateChannelConfig(
        network="signet",
        timeout_ms=500,
        challenge_period=36,
        funding_threshold=20_000,
        max_channel_value=30_000,
        taproot_enabled=False,
    )

    assert StateChannelConfig.from_env(changed) == expected
    assert StateChannelConfig.from_env({"STATE_CHANNEL_NETWORK": ""}) == StateChannelConfig()
    assert expected.timeout_seconds == 0.5
    assert expected.terms((15_000, 15_000)).challenge_period == 36
    assert (expected.params_policy.min_capacity, expected.params_policy.max_capacity) == (20_000, 30_000)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("STATE_CHANNEL_NETWORK", "moonnet", "one of mainnet"),
        ("STATE_CHANNEL_TIMEOUT_MS", "99", "between 100"),
        ("STATE_CHANNEL_TIMEOUT_MS", "30s", "whole number"),
        ("STATE_CHANNEL_CHALLENGE_PERIOD", "0", "between 1 and 65535"),
        ("STATE_CHANNEL_CHALLENGE_PERIOD", "65536", "between 1 and 65535"),
        ("STATE_CHANNEL_FUNDING_THRESHOLD", "100000001", "funding_threshold"),
        ("STATE_CHANNEL_TAPROOT_ENABLED", "yes", "true, false, 1 or 0"),
    ],
)
def test_values_out_of_range_are_refused(variable: str, value: str, words: str) -> None:
    """Each says which option and what is allowed."""
    with pytest.raises(ConfigurationError, match=words):
        StateChannelConfig.from_env({variable: value})


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("taproot_enabled", "false", "taproot_enabled is True or False, got 'false'"),
        ("taproot_enabled", 0, "taproot_enabled is True or False, got 0"),
        ("timeout_ms", "30000", "timeout_ms is a whole number, got '30000'"),
        ("challenge_period", 144.5, "challenge_period is a whole number, got 144.5"),
        ("funding_threshold", None, "funding_threshold is a whole number, got None"),
        ("max_channel_value", 2_100_000_000_000_001, "max_channel_value lies between 1 and"),
        ("network", None, "network is one of mainnet"),
    ],
)
def test_values_of_another_kind_are_refused(option: str, value: Any, words: str) -> None:
    """A text "false" would be true, and half a block would be stored."""
    with pytest.raises(ConfigurationError, match=words):
        StateChannelConfig(**{option: value})


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    """Python itself reads no such text, and says so with an error of its own."""
    with pytest.raises(ConfigurationError, match="STATE_CHANNEL_MAX_VALUE is a whole number of at most 18 digits"):
        StateChannelConfig.from_env({"STATE_CHANNEL_MAX_VALUE": "9" * 5_000})


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────


def params_of(pair: Pair, **changes: object) -> ChannelParams:
    """What an application would have asked for."""
    participants = tuple(
        ChannelParticipant(pair.params.keys(side).fund.hex(), pair.state(0).content.read_header().balances[side])
        for side in Side
    )
    return msgspec.structs.replace(ChannelParams(participants), **changes)


@pytest.mark.asyncio
async def test_the_documented_workflow(tower: Bench) -> None:
    """Connect, create, ten updates, info, funding status, disconnect."""
    pair = open_pair(balances=(50_000_000, 50_000_000))
    tower.fund(pair)
    name = pair.channel_id.hex()

    async with client_of(tower, pair) as client:
        created = await client.create_channel(params_of(pair), pair.registration(Side.B))
        assert (created.channel_id, created.created) == (name, True)
        tower.confirm(pair)
        for number in range(1, 11):
            balances = (50_000_000 - number * 1_000_000, 50_000_000 + number * 1_000_000)
            pair.update(balances, state_data=f"payment_{number}".encode())
            signed = [pair.state(number).signatures(side) for side in Side]
            texts = tuple(StateSignatures.encode(each).hex() for each in signed)
            update = StateUpdate(name, number, balances, f"payment_{number}", texts)
            stored = await client.update_state(update)
            assert (stored.sequence, stored.final_sequence, stored.duplicate) == (number, number, False)
        again = await client.update_state(update)
        info = await client.get_channel_info(name)
        funding = await client.get_funding_status(name)
        state = await client.get_state()

    assert again.duplicate
    assert (info.status, info.current_sequence, info.balances) == (
        ChannelStatus.ACTIVE,
        10,
        (40_000_000, 60_000_000),
    )
    assert (funding.status, funding.confirmed) == ("CONFIRMED", True)
    assert (state.network, state.channels, state.capacity) == ("regtest", 1, 100_000_000)


@pytest.mark.asyncio
@pytest.mark.parametrize("musig", [True, False])
async def test_funding_script_may_be_the_channels_own_descriptor(tower: Bench, musig: bool) -> None:
    """`taproot` or either form of the own descriptor; a foreign one is refused with both shown."""
    pair = open_pair()
    tower.fund(pair)
    own = funding_descriptor(pair.params, musig=musig)

    async with client_of(tower) as client:
        registration = pair.registration(Side.B)
        await client.create_channel(params_of(pair, funding_script=own), registration)
        foreign = params_of(pair, funding_script="tr(alice_key,{and_v(v:pk(bob_key),after(144))})")
        with pytest.raises(InvalidParams, match=r"alice_key.*this channel has 'tr\(musig"):
            await client.create_channel(foreign, registration)


@pytest.mark.asyncio
async def test_create_channel_compares_what_was_asked_with_what_was_signed(tower: Bench) -> None:
    """Other participants, period or limits: nothing is sent."""
    pair = open_pair()
    tower.fund(pair)
    swapped = tuple(reversed(params_of(pair).participants))

    async with client_of(tower) as client:
        for wrong in (params_of(pair, participants=swapped), params_of(pair, challenge_period=145)):
            with pytest.raises(InvalidParams):
                await client.create_channel(wrong, pair.registration(Side.B))
        client.config = StateChannelConfig(network="regtest", max_channel_value=999_999)
        with pytest.raises(InvalidParams, match="capacity"):
            await client.create_channel(params_of(pair), pair.registration(Side.B))
        client.config = StateChannelConfig(network="regtest", taproot_enabled=False)
        with pytest.raises(InvalidParams, match="taproot_enabled"):
            await client.create_channel(params_of(pair), pair.registration(Side.B))

    assert tower.store.last_id() == 1


@pytest.mark.asyncio
async def test_update_state_compares_its_fields_with_the_signed_state(tower: Bench) -> None:
    """Number, balances, data or signatures that differ from the signed state are refused before sending."""
    pair = open_pair()
    name = tower.registered(pair)
    pair.update((499_000, 501_000), state_data=b"x")
    good = StateUpdate(name, 1, (499_000, 501_000), "x", upload=pair.update_request(Side.B, 1))
    wrong = [
        msgspec.structs.replace(good, sequence_number=2),
        msgspec.structs.replace(good, balances=(501_000, 499_000)),
        msgspec.structs.replace(good, state_data="y"),
        msgspec.structs.replace(good, signatures=("00" * 256, "00" * 256)),
    ]
    stored = tower.store.last_id()

    async with client_of(tower) as client:
        for update in wrong:
            with pytest.raises(InvalidState):
                await client.update_state(update)
        assert tower.store.last_id() == stored
        assert (await client.update_state(good)).sequence == 1


@pytest.mark.asyncio
async def test_timeline_and_list_go_through_all_pages(tower: Bench) -> None:
    """The client follows `next` by itself."""
    names = {tower.registered(open_pair(names=(f"a{n}", f"b{n}"))) for n in range(3)}

    async with client_of(tower) as client:
        assert {info.channel_id for info in await client.list_channels()} == names
        assert [entry.version for entry in await client.get_timeline(names.pop())] == [1, 2, 3, 4]
        assert await client.list_channels("PUNISHED") == []


# ── uploads by a party ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_synchronize_brings_the_tower_to_the_party(tower: Bench) -> None:
    """Registration, missing states and releases are sent; then the newest state is final (U4)."""
    pair = open_pair()
    tower.fund(pair)

    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        tower.confirm(pair)
        pair.updates(4)
        assert pair.b.channel(pair.channel_id).final_sequence == 0
        result = await client.synchronize(pair.channel_id)

    assert (result.sequence, result.final_sequence) == (4, 4)
    assert pair.b.channel(pair.channel_id).final_sequence == 4
    channel = tower.context.channels.load(tower.context.channels.stream_of(pair.params.proposal_id))
    assert (channel.sequence, channel.highest_revoked, channel.own_released) == (4, 3, 3)
    assert pair.b.channel(pair.channel_id).acknowledged == ((TOWER_ID, 4),)


@pytest.mark.asyncio
@pytest.mark.parametrize("lose", range(5))
async def test_f12_a_lost_answer_is_repaired_by_the_next_upload(tower: Bench, lose: int) -> None:
    """The tower stored it, the answer was lost: not final; the same bytes again are stored once, then it is."""
    pair = open_pair()
    tower.registered(pair)
    pair.updates(4)
    client = client_of(tower, pair, Unreliable(tower.transport(), lose))

    with pytest.raises(TowerUnreachable):
        async with client:
            await client.synchronize(pair.channel_id)
    assert pair.b.channel(pair.channel_id).final_sequence < 4
    async with client_of(tower, pair) as again:
        await again.synchronize(pair.channel_id)

    assert pair.b.channel(pair.channel_id).final_sequence == 4
    channel = tower.context.channels.load(tower.context.channels.stream_of(pair.params.proposal_id))
    assert (channel.sequence, channel.highest_revoked, channel.own_released) == (4, 3, 3)
    assert channel.version == 4 + 4 + 1


@pytest.mark.asyncio
async def test_a_party_that_is_behind_its_tower_is_frozen(tower: Bench) -> None:
    """An old copy of the party's log learns at its tower that it is one, and publishes nothing."""
    pair = open_pair()
    tower.registered(pair)
    store = MemoryEventStore()
    channel = pair.b.channel(pair.channel_id)
    store.append(pair.b._store.read_stream(channel.stream))
    old_copy = make_party("bob", store=store)
    pair.update()
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        client.party = old_copy
        with pytest.raises(ChannelNotReady, match="old copy"):
            await client.synchronize(pair.channel_id)

    with pytest.raises(ChannelNotReady, match="frozen"):
        old_copy.sign_commitment(pair.channel_id, 0)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_problems_become_typed_errors(tower: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slug, status and detail arrive in the exception."""
    pair = open_pair()

    async with client_of(tower) as client:
        with pytest.raises(ChannelNotFound) as missing:
            await client.get_channel_info("00" * 32)
        with pytest.raises(FundingRefused, match="no unspent output"):
            await client.register_channel(pair.registration(Side.B))
        tower.fund(pair)

        def fail(*_: object, **__: object) -> int:
            raise StoreBusy("full")

        monkeypatch.setattr(tower.store, "append", fail)
        with pytest.raises(TowerUnavailable):
            await client.register_channel(pair.registration(Side.B))

    assert (missing.value.slug, missing.value.status) == ("unknown-channel", 404)


@pytest.mark.asyncio
async def test_connecting_checks_network_and_token(tower: Bench) -> None:
    """Another network, no token, a closed client: typed errors, and no session stays open."""
    mainnet = StateChannelClient(url="http://tower", token=TOKEN, transport=tower.transport())
    with pytest.raises(WrongTower, match="regtest"):
        await mainnet.connect()
    with pytest.raises(NotConnected):
        await mainnet.get_state()

    stranger = StateChannelClient(REGTEST, url="http://tower", transport=tower.transport())
    with pytest.raises(Unauthorized):
        await stranger.connect()

    client = client_of(tower)
    await client.connect()
    await client.disconnect()
    await client.disconnect()
    with pytest.raises(NotConnected, match="connect"):
        await client.get_state()


@pytest.mark.asyncio
async def test_no_tower_and_something_else_than_a_tower() -> None:
    """Nothing listening, silence, and a foreign web server."""

    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("silence", request=request)

    answers = [
        (httpx.MockTransport(silent), TowerUnreachable),
        (httpx.MockTransport(lambda request: httpx.Response(502, text="<html>")), UnexpectedAnswer),
        (httpx.MockTransport(lambda request: httpx.Response(200, text="hello")), UnexpectedAnswer),
    ]

    for transport, expected in answers:
        with pytest.raises(expected):
            await StateChannelClient(REGTEST, url="http://nobody", transport=transport).connect()


@pytest.mark.asyncio
async def test_the_time_limit_is_timeout_ms() -> None:
    """`timeout_ms` is what httpx is told, in seconds."""
    told: list[dict[str, float]] = []

    def look(request: httpx.Request) -> httpx.Response:
        told.append(request.extensions["timeout"])
        return httpx.Response(502)

    config = StateChannelConfig(network="regtest", timeout_ms=750)
    with pytest.raises(UnexpectedAnswer):
        await StateChannelClient(config, url="http://nobody", transport=httpx.MockTransport(look)).connect()

    assert set(told[0].values()) == {0.75}


@pytest.mark.asyncio
async def test_another_port_of_a_tower_is_not_taken_for_its_api() -> None:
    """The listener of the metrics answers like a tower, but has none of the addresses; the error names both."""
    body = b'{"type": "urn:state-channel:not-found", "title": "There is nothing at this address", "status": 404}'
    answer = httpx.Response(404, content=body, headers={"Content-Type": "application/problem+json"})
    client = StateChannelClient(REGTEST, url="http://nobody:9816", transport=httpx.MockTransport(lambda _: answer))

    with pytest.raises(UnexpectedAnswer, match="there is no /v1/info at http://nobody:9816; is this a tower's"):
        await client.connect()


def test_every_refusal_of_the_api_has_its_exception() -> None:
    """Slugs that clients can meet are not plain problems."""
    plain = {"refused", "not-found", "method-not-allowed", "too-large", "unsupported-media-type"}
    node = {"node-unavailable", "wrong-chain"}
    busy = {"too-busy", "access-file", "store-busy", "store-full", "worker-unavailable", "receipts-suspended"}
    server = {"store-away", "standing-by"}
    unavailable = {"request-timeout", "conflict", "internal"} | busy | node | server

    assert set(TITLES) - plain - unavailable == set(BY_SLUG)


def test_a_client_does_not_show_its_token() -> None:
    """The repr names network and address only."""
    assert TOKEN not in repr(StateChannelClient(REGTEST, token=TOKEN))


def test_what_cannot_be_a_tower_is_refused_at_once() -> None:
    """An address without its scheme, and a key that is still a text."""
    for url in ("127.0.0.1:9815", "ftp://tower.example"):
        with pytest.raises(ConfigurationError, match="begins with http:// or https://, got"):
            StateChannelClient(url=url)
    for key in (b"short", "11" * 32):
        with pytest.raises(ConfigurationError, match="tower_id has 32 bytes"):
            StateChannelClient(tower_id=key)  # type: ignore[arg-type]
