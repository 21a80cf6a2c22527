"""`create_channel`: the whole opening with a peer and a wallet, its refusals, and its repetition after every fault."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.contract.descriptors import with_checksum
from domain.contract.params import SEGWIT, TAPROOT
from domain.contract.scripts import funding_descriptor
from domain.errors import ChannelNotReady, InvalidParams, MalformedInput
from domain.transaction import Transaction
from tests.support.sdk import CONFIG, HALF, Desk, Ends, Killed, desk, tower_at
from tests.support.towers import TOWER_ID
from watchtower.client import (
    ChannelParams,
    ChannelParticipant,
    PartyAuth,
    StateChannelClient,
    StateChannelConfig,
    StateChannelError,
    StateUpdate,
    WalletError,
)
from watchtower.client.errors import NotConnected, TowerUnreachable

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

PROFILES = {True: TAPROOT, False: SEGWIT}


class Switch(httpx.AsyncBaseTransport):
    """Carries to a tower, or fails for the next `failures` requests of a method."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.failures = 0
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry or fail."""
        self.asked.append(f"{request.method} {request.url.path}")
        if request.method == "POST" and self.failures:
            self.failures -= 1
            raise httpx.ConnectError("no route")
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize("taproot", [True, False])
async def test_a_channel_is_registered_before_its_funding_is_signed(tmp_path: Path, taproot: bool) -> None:
    """One call opens: both have state 0, the tower knows the channel, then the funding is signed and sent."""
    config = StateChannelConfig(network="regtest", taproot_enabled=taproot)
    async with desk(tmp_path, config) as at:
        result = await at.client.create_channel(at.params(), state_data="hello")

        channel = at.alice.channel(bytes.fromhex(result.channel_id))
        await at.two.b.wait_for(channel.channel_id, lambda theirs: theirs.sequence == 0)  # the last message is alice's
        assert ["prepare", "sign", "broadcast"] == at.wallet.calls
        assert (True, "PROPOSED", PROFILES[taproot]) == (
            result.created,
            result.info.status,
            channel.params.profile,
        )
        assert with_checksum(funding_descriptor(channel.params)) == result.descriptor
        assert result.funding_txid == Transaction.parse(at.wallet.sent[0]).txid[::-1].hex()
        assert b"hello" == at.bob.state(channel.channel_id, 0).content.state_data
        assert 0 == channel.final_sequence


async def descriptor_of(directory: Path, **form: Any) -> str:
    """The descriptor of the channel that parties with these seeds open first."""
    async with desk(directory) as at:
        created = await at.client.create_channel(at.params())
        return funding_descriptor(at.alice.channel(bytes.fromhex(created.channel_id)).params, **form)


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("musig", [True, False])
async def test_funding_script_may_be_the_own_descriptor(tmp_path: Path, musig: bool, checksum: bool) -> None:
    """Each form of the descriptor is taken, with and without checksum."""
    (tmp_path / "first").mkdir()
    descriptor = await descriptor_of(tmp_path / "first", musig=musig)
    given = with_checksum(descriptor) if checksum else descriptor
    async with desk(tmp_path) as at:
        result = await at.client.create_channel(at.params(funding_script=given))

    assert result.created


async def test_another_descriptor_is_refused_with_both_shown(tmp_path: Path) -> None:
    """The documentation's own example is no descriptor of this channel: nothing is prepared, let alone signed."""
    foreign = "tr(alice_key,{and_v(v:pk(bob_key),after(144))})"
    (tmp_path / "first").mkdir()
    own = await descriptor_of(tmp_path / "first")
    async with desk(tmp_path) as at:
        with pytest.raises(InvalidParams) as refused:
            await at.client.create_channel(at.params(funding_script=foreign))

        assert foreign in str(refused.value)
        assert own in str(refused.value)
        assert [] == at.wallet.calls
        assert [True] == [channel.abandoned for channel in at.alice.channels()]


def people(at: Desk, own: str | None = None, peer: str | None = None) -> list[ChannelParticipant]:
    """The right participants, with a key replaced."""
    keys = (at.alice.next_funding_key().hex(), at.bob.next_funding_key().hex())
    return [ChannelParticipant(own or keys[0], HALF), ChannelParticipant(peer or keys[1], HALF)]


async def test_keys_are_compared_with_what_the_parties_bring(tmp_path: Path) -> None:
    """A wrong own key is refused before a message, a wrong key of the peer before anything is prepared."""
    stranger = "02" + "ab" * 32
    async with desk(tmp_path) as at:
        own, theirs = at.alice.next_funding_key().hex(), at.bob.next_funding_key().hex()
        with pytest.raises(InvalidParams, match=f"{own}.*{stranger}"):
            await at.client.create_channel(at.params(participants=people(at, own=stranger)))
        before = at.alice.channels()
        with pytest.raises(InvalidParams, match=f"{stranger}.*{theirs}"):
            await at.client.create_channel(at.params(participants=people(at, peer=stranger)))

        assert ((), []) == (before, at.wallet.calls)


async def test_an_empty_key_means_what_the_authenticated_party_brings(tmp_path: Path) -> None:
    """Without keys the channel is with whom the link was authenticated."""
    async with desk(tmp_path) as at:
        expected = [at.alice.next_funding_key().hex(), at.bob.next_funding_key().hex()]
        result = await at.client.create_channel(ChannelParams([ChannelParticipant("", HALF)] * 2))

        assert expected == [who.pubkey for who in result.info.participants]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"participants": [ChannelParticipant("", HALF)] * 3}, "two participants, got 3"),
        ({"participants": [ChannelParticipant("", 0), ChannelParticipant("", 9_999)]}, "9999 sat lies outside 10000"),
        ({"participants": [ChannelParticipant("", 50_000_001)] * 2}, "100000002 sat lies outside"),
        ({"challenge_period": 143}, "143 blocks, this client asks for 144"),
        ({"challenge_period": 65_536}, "65535 is the most"),
    ],
)
async def test_params_outside_the_limits_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Each limit is named, and nothing is left behind."""
    async with desk(tmp_path) as at:
        with pytest.raises(InvalidParams, match=words):
            await at.client.create_channel(at.params(**changes))

        assert ((), []) == (at.alice.channels(), at.wallet.calls)


@pytest.mark.parametrize("balance", [0.5, 500_000.0, "500000"])
async def test_amounts_that_are_no_whole_satoshi_are_refused(tmp_path: Path, balance: Any) -> None:
    """By name, before the peer hears of them: it would end the connection."""
    async with desk(tmp_path) as at:
        wrong = [ChannelParticipant("", balance), ChannelParticipant("", HALF)]
        with pytest.raises(MalformedInput, match="initial_balance: whole satoshi as int, got"):
            await at.client.create_channel(at.params(participants=wrong))

        assert ((), []) == (at.alice.channels(), at.wallet.calls)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"participants": "ab"}, "participants: two of ChannelParticipant"),
        ({"participants": None}, "participants: two of ChannelParticipant"),
        ({"participants": ["02" + "ab" * 32, "03" + "cd" * 32]}, "participants: ChannelParticipant"),
        ({"participants": [ChannelParticipant(None, HALF)] * 2}, "participants: ChannelParticipant"),  # type: ignore[arg-type]
        ({"funding_script": None}, "funding_script: a text"),
        ({"funding_script": ["taproot"]}, "funding_script: a text"),
    ],
)
async def test_params_of_another_kind_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """With a typed error, not with Python's own, and before the peer hears of them."""
    async with desk(tmp_path) as at:
        with pytest.raises(MalformedInput, match=words):
            await at.client.create_channel(at.params(**changes))

        assert ((), []) == (at.alice.channels(), at.wallet.calls)


async def test_a_repetition_changes_nothing(tmp_path: Path) -> None:
    """The same request again finds the channel; another balance for the same keys is refused."""
    async with desk(tmp_path) as at:
        params = at.params()
        first = await at.client.create_channel(params)
        again = await at.client.create_channel(params)
        other = [ChannelParticipant(who.pubkey, HALF + 1) for who in params.participants]
        with pytest.raises(InvalidParams, match="500001 sat, the channel 500000 sat"):
            await at.client.create_channel(ChannelParams(other))

        assert (True, False, first.channel_id) == (first.created, again.created, again.channel_id)
        assert (1, 1) == (at.wallet.calls.count("sign"), len(at.alice.channels()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"static_feerate": 3_000}, "static_feerate is 3000, the channel with these keys has 2000"),
        ({"app_id": b"\x01" * 32}, "app_id is '0101"),
        ({"state_data": "other"}, "state_data is '6f74686572', the channel with these keys has ''"),
    ],
)
async def test_a_repetition_that_asks_for_something_else_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    """What is asked for beside `params` belongs to the channel as well: another application has other rules."""
    async with desk(tmp_path) as at:
        params = at.params()
        await at.client.create_channel(params)

        with pytest.raises(InvalidParams, match=words):
            await at.client.create_channel(params, **changes)


@pytest.mark.parametrize("step", ["prepare", "sign", "broadcast"])
@pytest.mark.parametrize("restart", [True, False])
async def test_a_wallet_that_fails_once_is_asked_again(tmp_path: Path, step: str, restart: bool) -> None:
    """After a fault in any step the same call opens the same channel with the same coins, also after a restart."""
    ends, tower = Ends(), tower_at(tmp_path)
    async with desk(tmp_path, ends=ends, tower=tower) as at:
        params = at.params()
        at.wallet.broken.add(step)
        with pytest.raises(WalletError, match=f"{step} fails once"):
            await at.client.create_channel(params)
        begun = {channel.params.proposal_id for channel in at.alice.channels()}
        retried = await at.client.create_channel(params) if not restart else None
    async with desk(tmp_path, ends=ends, tower=tower) as at:
        result = retried or await at.client.create_channel(params)

        assert begun == {bytes.fromhex(result.info.proposal_id)}
        assert "PROPOSED" == result.info.status
        assert at.alice.channels()[0].funding_tx is not None


async def begin(at: Desk, params: ChannelParams) -> None:
    """An opening that somebody does not survive; links of a dead party end."""
    with contextlib.suppress(Killed, StateChannelError, TimeoutError):
        await asyncio.wait_for(at.client.create_channel(params), 2)


@pytest.mark.parametrize("victim", [0, 1], ids=["opener", "acceptor"])
@pytest.mark.parametrize("passing", range(1, 22))
async def test_whoever_is_killed_anywhere_one_channel_is_funded(tmp_path: Path, victim: int, passing: int) -> None:
    """Killed around every entry in the log: the repeated call ends with one funding, and state 0 on both sides."""
    ends, tower = Ends(), tower_at(tmp_path)
    async with desk(tmp_path, ends=ends, tower=tower, timeout_ms=300) as at:
        params, signed = at.params(), at.wallet.calls
        ends.fuses[victim].left = passing
        await begin(at, params)
    ends.fuses[victim].left = None
    async with desk(tmp_path, ends=ends, tower=tower) as at:
        with contextlib.suppress(InvalidParams):  # killed while keys were exchanged: they are used up
            await at.client.create_channel(params)
        again = params if [each for each in at.alice.channels() if each.funding_tx] else at.params()
        result = await at.client.create_channel(again)
        await at.two.b.wait_for(bytes.fromhex(result.channel_id), lambda channel: channel.sequence == 0)

        (funded,) = (channel for channel in at.alice.channels() if channel.funding_tx is not None)
        assert (funded.channel_id.hex(), 0, 0) == (result.channel_id, funded.sequence, funded.final_sequence)
        assert 1 <= (signed + at.wallet.calls).count("sign") <= 2
        assert {funded.funding_tx} == set(at.wallet.sent)


async def test_an_unreachable_tower_stops_the_opening_before_the_signature(tmp_path: Path) -> None:
    """The coins stay reserved; the same call goes on, with the transaction that was prepared."""
    tower = tower_at(tmp_path)
    switch = Switch(tower.transport())
    async with desk(tmp_path, tower=tower, transport=switch) as at:
        params = at.params()
        switch.failures = 1
        with pytest.raises(TowerUnreachable):
            await at.client.create_channel(params)
        stopped = list(at.wallet.calls)
        await at.client.create_channel(params)

        assert ["prepare"] == stopped
        assert ["prepare", "sign", "broadcast"] == at.wallet.calls


async def test_a_refusal_of_the_tower_gives_the_coins_back(tmp_path: Path) -> None:
    """A tower that takes no more ends the opening: released, given up, nothing signed."""
    async with desk(tmp_path) as at:
        at.wallet.has_coins = False
        with pytest.raises(StateChannelError, match="no unspent output"):
            await at.client.create_channel(at.params())

        assert ["prepare", "release"] == at.wallet.calls
        assert [True] == [channel.abandoned for channel in at.alice.channels()]


async def test_an_opening_can_be_given_up_until_it_is_signed(tmp_path: Path) -> None:
    """`abandon_channel` frees the coins once; a funded channel must be closed instead."""
    async with desk(tmp_path) as at:
        at.wallet.broken.add("sign")
        with pytest.raises(WalletError):
            await at.client.create_channel(at.params())
        (begun,) = at.alice.channels()
        await at.client.abandon_channel(begun.channel_id.hex())
        funded = await at.client.create_channel(at.params())
        with pytest.raises(ChannelNotReady, match="close the channel instead"):
            await at.client.abandon_channel(funded.channel_id)

        assert 1 == at.wallet.calls.count("release")
        assert at.alice.channel(begun.channel_id).abandoned


async def test_a_client_without_the_means_says_what_is_missing(tmp_path: Path) -> None:
    """No party, no peer or no wallet: a sentence, and no message."""
    async with desk(tmp_path) as at:
        params = at.params()
        at.client.wallet = None
        with pytest.raises(NotConnected, match="needs a peer and a wallet"):
            await at.client.create_channel(params)
        at.client.party = None
        with pytest.raises(NotConnected, match="made with a party"):
            await at.client.create_channel(params)


async def test_a_bad_id_is_said(tmp_path: Path) -> None:
    """An id that is no hexadecimal text of 32 bytes is typed, whatever the call."""
    async with desk(tmp_path) as at:
        for call in (at.client.abandon_channel, at.client.get_channel_state):
            with pytest.raises((MalformedInput, StateChannelError)):
                await call("zz")


# ── the six options ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_configured_challenge_period_is_that_of_new_channels(tmp_path: Path) -> None:
    """Without a period in the parameters the channel has the configured one."""
    async with desk(tmp_path, StateChannelConfig(network="regtest", challenge_period=200)) as at:
        result = await at.client.create_channel(at.params(challenge_period=None))

        assert 200 == result.info.challenge_period


async def test_threshold_and_largest_value_are_those_of_the_configuration(tmp_path: Path) -> None:
    """A million satoshi are too little for one client, too much for the other."""
    async with desk(tmp_path, StateChannelConfig(network="regtest", funding_threshold=1_000_001)) as at:
        with pytest.raises(InvalidParams, match="lies outside 1000001"):
            await at.client.create_channel(at.params())
        at.client.config = StateChannelConfig(network="regtest", max_channel_value=999_999)
        with pytest.raises(InvalidParams, match="to 999999 sat"):
            await at.client.create_channel(at.params())


async def test_a_partys_settings_follow_the_configuration() -> None:
    """What a client refuses to open its party refuses to accept."""
    config = StateChannelConfig(
        network="signet",
        challenge_period=200,
        funding_threshold=50_000,
        max_channel_value=60_000,
        taproot_enabled=False,
    )
    settings = config.party_settings()

    assert ("signet", 50_000, 60_000, 200, False) == (
        settings.network,
        settings.min_capacity,
        settings.max_capacity,
        settings.min_challenge_period,
        settings.taproot_enabled,
    )


async def test_the_network_of_party_and_client_is_one(tmp_path: Path) -> None:
    """A client for another network than its party's does not connect."""
    party = Ends().parties()[0]
    client = StateChannelClient(StateChannelConfig(network="signet"), party=party)

    with pytest.raises(StateChannelError, match="party is one of regtest, the client is set to signet"):
        await client.connect()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "signet"}, "serves signet"),
        ({"chain_hash": "00" * 32}, "chain from 0000"),
        ({"protocol_version": 2}, "speaks protocol 2"),
        ({"profiles": [1]}, "no channels with Taproot"),
        ({"tower_id": "22" * 32}, "expected was 1111"),
    ],
)
async def test_a_tower_that_is_another_one_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Version, chain, profile and the pinned key are compared when the client connects."""
    answer = (await tower_at(tmp_path).http().get("/v1/info")).json() | {"tower_id": "11" * 32} | changes
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
    client = StateChannelClient(CONFIG, url="http://tower", transport=transport, tower_id=b"\x11" * 32)

    with pytest.raises(StateChannelError, match=words):
        await client.connect()


async def test_a_channel_may_be_opened_without_any_token(tmp_path: Path) -> None:
    """The operator allows the party's next auth key; from then on every request is signed with the channel's key."""
    tower = tower_at(tmp_path)
    ends = Ends()
    async with desk(tmp_path, ends=ends, tower=tower) as at:
        auth = PartyAuth(at.alice, TOWER_ID, now=lambda: tower.clock.wall_microseconds() / 1e6)
        tower.access.allow(at.alice.next_auth_key(), "Alice", 1)
        async with StateChannelClient(
            CONFIG,
            url="http://tower",
            party=at.alice,
            peer=at.two.a,
            wallet=at.wallet,
            auth=auth,
            transport=tower.transport(),
            tower_id=TOWER_ID,
        ) as client:
            created = await client.create_channel(at.params())
            at.confirm(created.channel_id)
            result = await client.update_state(StateUpdate(created.channel_id, 1, [HALF - 1, HALF + 1]))

        assert (1, 1) == (result.sequence, result.final_sequence)
