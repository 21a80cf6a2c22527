"""A client that signs instead of sending a token: all calls of the SDK with the keys of a party."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from domain.contract.params import KeyBlock
from domain.contract.receipts import SignedReceipt
from domain.errors import MalformedInput
from domain.units import Side
from tests.support.linking import TERMS
from tests.support.parties import Pair, make_party, open_pair
from tests.support.proofs import secret_proof
from tests.support.serving import served
from tests.support.towers import TOWER_ID, Bench
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.tower import calls
from watchtower.client.tower.request_signing import PartyAuth, PartySigner

REGTEST = StateChannelConfig(network="regtest")


@pytest.fixture
def pair() -> Pair:
    """A channel with state 0."""
    return open_pair()


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def auth_of(tower: Bench, pair: Pair) -> PartyAuth:
    """B signs, with the tower's clock."""
    return PartyAuth(pair.b, TOWER_ID, now=lambda: tower.clock.wall_microseconds() / 1e6)


@pytest.mark.asyncio
async def test_a_party_uses_the_whole_client_without_a_token(tower: Bench, pair: Pair) -> None:
    """Registration, states, questions: each request is signed with the key of its channel."""
    tower.fund(pair)
    tower.access.allow(pair.params.keys(Side.B).auth, "Bob", 1)
    async with StateChannelClient(
        REGTEST, url="http://tower", party=pair.b, auth=auth_of(tower, pair), transport=tower.transport()
    ) as client:
        await client.synchronize(pair.channel_id)
        tower.confirm(pair)
        pair.updates(2)
        result = await client.synchronize(pair.channel_id)
        info = await client.get_channel_info(pair.channel_id.hex())
        listed = await client.list_channels()
        history = await client.get_timeline(pair.channel_id.hex())

    assert (2, 2) == (result.sequence, info.current_sequence)
    assert [info.channel_id] == [each.channel_id for each in listed]
    assert len(history) > 2


@pytest.mark.asyncio
async def test_a_client_follows_its_channel(tower: Bench, pair: Pair) -> None:
    """`follow` is signed too, and begins where it is told."""
    name = tower.registered(pair)
    async with (
        served(tower.app) as clients,
        StateChannelClient(REGTEST, url=clients.url, party=pair.b, auth=auth_of(tower, pair)) as client,
    ):
        first = await anext(client.follow(name, after=0))
        of_all = await anext(client.follow(after=0))

    assert (pair.channel_id, 1) == (first.channel_id, first.version)
    assert first == of_all


@pytest.mark.asyncio
async def test_each_channel_is_asked_about_with_its_own_key(tower: Bench, pair: Pair) -> None:
    """Also where the address does not begin like a channel's, or the body names it: the second one is known, too."""
    second = open_pair(parties=(pair.a, pair.b))
    tower.registered(pair)
    name = tower.registered(second)
    proof, commitment = secret_proof(second, 0), second.commitment(Side.A, 0)
    async with StateChannelClient(
        REGTEST, url="http://tower", party=pair.b, auth=auth_of(tower, pair), transport=tower.transport()
    ) as client:
        receipt = await client.get_receipt(name, None)
        verdict = await client.verify_proof(proof.hex())
        found = await client.validate_transaction(commitment.hex(), channel_id=name)
        synchronized = await client.synchronize(second.channel_id)

    acknowledged = dict(pair.b.channel(second.channel_id).acknowledged)
    assert {TOWER_ID: 0} == acknowledged
    assert second.channel_id == SignedReceipt.decode(bytes.fromhex(receipt)).read().subject
    assert (name, "commitment") == (found.channel_id, found.kind)
    assert name == verdict.channel_id
    assert 0 == synchronized.sequence


@pytest.mark.asyncio
async def test_a_second_channel_is_waited_for(tower: Bench, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is registered, too: its events are asked for with its own key, not with that of the first one."""
    monkeypatch.setattr(calls, "LOOK_AGAIN", 3_600)  # they alone end the waiting
    second = open_pair(parties=(pair.a, pair.b))
    tower.registered(pair)
    async with (
        served(tower.app) as clients,
        StateChannelClient(REGTEST, url=clients.url, party=pair.b, auth=auth_of(tower, pair)) as client,
    ):
        asyncio.get_running_loop().call_later(0.3, tower.registered, second)
        info = await client.wait_for_status(second.channel_id.hex(), "ACTIVE", timeout_ms=60_000)

    assert "ACTIVE" == info.status


@pytest.mark.asyncio
async def test_a_party_without_channels_signs_with_its_next_key(tower: Bench) -> None:
    """It can ask the tower for its state, and tell the operator which key will register; nothing is used up."""
    zoe = make_party("zoe")
    auth = PartyAuth(zoe, TOWER_ID, now=lambda: tower.clock.wall_microseconds() / 1e6)
    before = zoe.next_auth_key()
    async with StateChannelClient(
        REGTEST, url="http://tower", party=zoe, auth=auth, transport=tower.transport()
    ) as client:
        assert [] == await client.list_channels()

    opened = zoe.open(TERMS)
    assert before == KeyBlock.decode(bytes(opened.key_block)).auth


@pytest.mark.parametrize("bad", [b"", bytes(32), TOWER_ID[:31]])
def test_a_tower_id_that_is_no_key(bad: bytes) -> None:
    """Nothing is signed for a tower that cannot exist."""
    with pytest.raises(MalformedInput, match="tower_id"):
        PartySigner(sha256(b"secret").digest(), bad)


def test_secrets_are_not_shown() -> None:
    """The text of a signer tells its public key only."""
    secret = sha256(b"secret").digest()
    signer = PartySigner(secret, TOWER_ID)

    assert secret.hex() not in repr(signer)
    assert signer.key.hex() in repr(signer)


@pytest.mark.parametrize("told", ["", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_time_that_cannot_be_believed(told: str) -> None:
    """A 401 without a credible time is handed on; the request is not signed again."""
    request = httpx.Request("GET", "http://tower/v1/info")
    flow = PartySigner(sha256(b"secret").digest(), TOWER_ID).auth_flow(request)
    next(flow)

    with pytest.raises(StopIteration):
        flow.send(httpx.Response(401, headers={"Date": told}))
