"""Liquidity and closing costs over HTTP, in the SDK, for a party and on the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from domain.fees import Market
from domain.liquidity import Holdings, liquidity
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair
from tests.support.towers import Bench
from watchtower.channels.liquidity import get_liquidity, get_total_liquidity
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.liquidity import ChannelLiquidity
from watchtower.client.party.liquidity import channel_liquidity
from watchtower.wire.liquidity import LiquidityBody, SideTotalBody

HTLCS = (htlc(Side.A, 1, 20_000, 900_000), htlc(Side.B, 2, 300, 900_000))


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def watched(tower: Bench, pair: Pair) -> str:
    """The tower watches the pair, whose state 1 has two HTLCs, one of them trimmed; returns the stream."""
    name = tower.registered(pair)
    pair.update((480_000, 499_700), HTLCS)
    tower.services.accept_state(name, pair.update_request(Side.B, 1))
    tower.catch_up()
    return tower.context.channels.stream_of(pair.params.proposal_id)


def asked(tower: Bench, path: str) -> dict[str, object]:
    """The answer to a question."""

    async def ask() -> dict[str, object]:
        async with tower.http() as http:
            answer = await http.get(path)
            assert 200 == answer.status_code, answer.text
            found: dict[str, object] = answer.json()
            return found

    return asyncio.run(ask())


def test_liquidity_of_a_channel(tower: Bench) -> None:
    """The figures are those of the domain; pending conditions have side, amount and expiry."""
    pair = open_pair()
    body = get_liquidity(tower.context, watched(tower, pair))
    expected = liquidity(Holdings(pair.params, (480_000, 499_700), HTLCS))

    assert (1, True, 1_000_000, 300) == (body.sequence, body.usable, body.capacity, body.dust_exposure)
    assert (expected.a.spendable, expected.b.htlc_spendable) == (body.a.spendable, body.b.htlc_spendable)
    assert (20_000, 300) == (body.a.pending_out, body.a.pending_in)
    assert [("A", 20_000, 900_000, False), ("B", 300, 900_000, True)] == [
        (each.offerer, each.amount, each.expiry, each.trimmed) for each in body.pending
    ]


def test_costs_follow_the_market(tower: Bench) -> None:
    """The node's estimate for six blocks counts; what the static feerate buys is told."""
    stream = watched(tower, open_pair())

    quiet = get_liquidity(tower.context, stream)
    tower.node.market = Market(30.0, 1.0, 1.0, ((6, 60.0),))
    busy = get_liquidity(tower.context, stream)

    assert (4.0, 60.0) == (quiet.feerate, busy.feerate)
    assert [True, False] == [each.static is not None and each.static.relays for each in (quiet, busy)]
    assert sum(cost.extra for cost in quiet.closing) < sum(cost.extra for cost in busy.closing)


def test_without_the_node_costs_are_static(tower: Bench) -> None:
    """A node that is away stops no question: the static feerate is used, and the market is null."""
    stream = watched(tower, open_pair())
    tower.node.is_down = True

    body = get_liquidity(tower.context, stream)

    assert (2.0, None) == (body.feerate, body.static)
    assert {0} == {cost.extra for cost in body.closing}


def test_before_the_funding_is_deep_nothing_can_be_spent(tower: Bench) -> None:
    """Updates are refused, so nothing is spendable; balances and costs are there."""
    pair = open_pair()
    tower.fund(pair)
    tower.services.register(pair.registration(Side.B))

    body = get_liquidity(tower.context, tower.context.channels.stream_of(pair.params.proposal_id))

    assert (False, 500_000, 0, 0) == (body.usable, body.a.balance, body.a.spendable, body.b.htlc_receivable)
    assert body.closing


def test_totals_are_those_of_owner_and_counterparty(tower: Bench) -> None:
    """Sums over all channels, with the side that the tower protects first."""
    first = get_liquidity(tower.context, watched(tower, open_pair()))
    second = open_pair(names=("carol", "dave"))
    tower.registered(second)

    total = get_total_liquidity(tower.context)

    other = liquidity(Holdings(second.params, second.balances))
    assert (2, 2, 2_000_000, 300) == (total.channels, total.usable, total.capacity, total.dust_exposure)
    assert total.own == SideTotalBody(
        balance=first.b.balance + other.b.balance,
        spendable=first.b.spendable + other.b.spendable,
        receivable=first.b.receivable + other.b.receivable,
        pending_out=300,
        pending_in=20_000,
    )
    assert total.own.spendable == total.counterparty.receivable


def test_a_party_sees_its_own_sums(tower: Bench) -> None:
    """The owner's key selects its channels."""
    pair, other = open_pair(), open_pair(names=("carol", "dave"))
    for each in (pair, other):
        tower.registered(each)

    owner = other.params.keys_b.auth
    assert (1, 1_000_000) == (
        get_total_liquidity(tower.context, owner).channels,
        get_total_liquidity(tower.context, owner).capacity,
    )


def test_over_http_and_in_the_channel(tower: Bench) -> None:
    """Both addresses answer, and one channel carries its liquidity; the list does not."""
    pair = open_pair()
    watched(tower, pair)
    name = pair.channel_id.hex()

    alone, total = asked(tower, f"/v1/channels/{name}/liquidity"), asked(tower, "/v1/liquidity")
    channel, page = asked(tower, f"/v1/channels/{name}"), asked(tower, "/v1/channels")

    assert msgspec.convert(alone, ChannelLiquidity).sequence == 1
    assert {"A", "B", "closing", "claims"} < set(alone)
    assert 1 == total["channels"]
    assert alone["A"] == channel["liquidity"]["A"]  # type: ignore[index]
    assert None is page["channels"][0]["liquidity"]  # type: ignore[index]


def test_in_the_sdk(tower: Bench) -> None:
    """`get_liquidity` of one channel and of all, and inside ChannelInfo."""
    pair = open_pair()
    watched(tower, pair)
    name = pair.channel_id.hex()

    async def ask() -> tuple[object, ...]:
        config = StateChannelConfig(network="regtest")
        async with StateChannelClient(
            config, url="http://tower", token="wt_test", transport=tower.transport()
        ) as client:
            one, total = await client.get_liquidity(name), await client.get_total_liquidity()
            return one, total.own, (await client.get_channel_info(name)).liquidity

    one, own, inside = asyncio.run(ask())
    assert isinstance(one, ChannelLiquidity)
    assert isinstance(inside, ChannelLiquidity)
    assert (name, one.b.spendable, one.pending) == (one.channel_id, own.spendable, inside.pending)  # type: ignore[attr-defined]


def test_the_forms_of_service_and_sdk_have_the_same_fields() -> None:
    """A field that the service adds must reach the SDK."""
    forms = [
        [field.encode_name for field in msgspec.structs.fields(form)] for form in (LiquidityBody, ChannelLiquidity)
    ]
    assert forms[0] == forms[1]


def test_for_a_party() -> None:
    """A party counts with its own log, and not at all once a close has begun."""
    pair = open_pair()
    pair.update((480_000, 499_700), HTLCS)
    channel = pair.a.channel(pair.channel_id)

    assert liquidity(Holdings(pair.params, (480_000, 499_700), HTLCS)) == channel_liquidity(channel)
    assert channel_liquidity(channel) == pair.a.liquidity(pair.channel_id)

    pair.a.sign_commitment(pair.channel_id, 1)
    closing = pair.a.liquidity(pair.channel_id)
    assert (0, 0, 480_000) == (closing.a.spendable, closing.b.htlc_spendable, closing.a.balance)
