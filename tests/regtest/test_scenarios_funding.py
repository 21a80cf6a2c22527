"""Funding and registration on a real node: what the tower takes, what it refuses, what a reorg takes back."""

from __future__ import annotations

import msgspec
import pytest

from domain.errors import (
    ChannelClosed,
    ChannelExists,
    ChannelNotReady,
    DomainError,
    FundingMismatch,
    InvalidParams,
)
from domain.events import (
    ChannelResolved,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    Payload,
    ResolvedAs,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.fundings import bare, drafted, rival, watch
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World
from tests.support.parties import Pair, made_up_funding
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import ChannelPolicy
from watchtower.channels.funding import get_funding
from watchtower.channels.queries import get_channel
from watchtower.channels.register import register
from watchtower.devnode.purse import Funding
from watchtower.wire.api import RegisterRequest
from watchtower.wire.hexes import ParamsHex, TxidHex


def named(world: World, pair: Pair, *kinds: type[Payload]) -> list[str]:
    """Names of the channel's events of these types, in order."""
    return [type(event).__name__ for event in world.events(pair) if isinstance(event, kinds)]


def refused(world: World, pair: Pair, request: RegisterRequest) -> DomainError:
    """The refusal of a registration; the tower's log and keystore stay as they were."""
    before = world.store.last_id()
    with pytest.raises(DomainError) as caught:
        register(world.context, request)
    assert before == world.store.last_id()
    assert world.channels.find(world.stream(pair)) is None
    assert world.keystore.get(pair.params.proposal_id) is None
    return caught.value


def test_scenario_F01_funding_spk_mismatch(world: World) -> None:
    """The output on chain pays the script of other keys: refused, with both scripts in the message."""
    foreign = drafted(world)
    pair = drafted(world, lambda spk, amount: foreign.funding)
    world.node.send_raw(foreign.funding.raw)
    world.node.mine(1)
    other = world.node.fund(bytes.fromhex("0014") + bytes(20), 1_000_000)
    world.node.mine(1)
    moved = drafted(world, lambda spk, amount: other)

    error = refused(world, moved, bare(moved))

    assert isinstance(error, FundingMismatch)
    assert "pays script 0014" in str(error)
    register(world.context, bare(pair))  # the same keys and the right output are taken


def test_funding_output_of_another_value_is_refused(world: World) -> None:
    """The right script with one satoshi less is not the agreed output."""
    pair = drafted(world, lambda spk, amount: world.node.fund(spk, amount - 1))
    world.node.mine(1)

    assert "holds 999999 sat" in str(refused(world, pair, bare(pair)))


def test_funding_transaction_that_pays_another_value_is_refused(world: World) -> None:
    """The same while nobody has seen the transaction: its bytes are looked into."""
    pair = drafted(world, lambda spk, amount: world.node.fund(spk, amount + 1, broadcast=False))

    assert "holds 1000001 sat" in str(refused(world, pair, pair.registration(Side.B)))


def test_funding_outpoint_that_does_not_exist_is_refused(world: World) -> None:
    """Neither the node nor the registration knows a transaction of that name."""
    pair = drafted(world, made_up_funding)

    assert "there is no unspent output" in str(refused(world, pair, bare(pair)))


def test_funding_transaction_without_coins_is_refused(world: World) -> None:
    """A funding transaction whose inputs do not exist can never confirm."""
    pair = drafted(world, made_up_funding)

    error = refused(world, pair, pair.registration(Side.B))

    assert isinstance(error, FundingMismatch)
    assert "is spent or unknown" in str(error)


def test_funding_output_number_that_does_not_exist_is_refused(world: World) -> None:
    """The transaction is on chain, but it has no such output."""
    pair = drafted(world, lambda spk, amount: Funding(world.node.fund(spk, amount).txid, 7, b""))
    world.node.mine(1)

    assert "there is no unspent output" in str(refused(world, pair, bare(pair)))


@pytest.mark.parametrize("mined", [False, True])
@pytest.mark.parametrize("with_funding_tx", [False, True])
def test_spent_funding_output_is_refused(world: World, mined: bool, with_funding_tx: bool) -> None:
    """A channel that is being closed, or was, cannot be put under watch any more."""
    pair = drafted(world)
    world.node.send_raw(pair.funding.raw)
    world.node.mine(1)
    world.node.send_raw(pair.close(Side.A))
    world.node.mine(int(mined))

    assert isinstance(refused(world, pair, pair.registration(Side.B, with_funding_tx)), FundingMismatch)


def test_double_spent_funding_is_refused(world: World) -> None:
    """The funding transaction lost its coin before the registration: it can never confirm."""
    pair = drafted(world)
    world.node.send_raw(rival(world, pair))
    world.node.mine(1)

    assert "double-spent" in str(refused(world, pair, pair.registration(Side.B)))


def test_channel_of_another_chain_is_refused(world: World) -> None:
    """The constants name the genesis block; a channel of another network is not watched here."""
    pair = drafted(world)
    params = msgspec.structs.replace(pair.params, chain_hash=bytes(32))
    request = msgspec.structs.replace(pair.registration(Side.B), params=ParamsHex(params.encode()))

    assert isinstance(refused(world, pair, request), InvalidParams)


def test_double_registration_with_swapped_roles(world: World) -> None:
    """One tower watches for one side: the other side's registration of the same channel is refused."""
    pair = world.open(updates=1)

    with pytest.raises(ChannelExists):
        register(world.context, pair.registration(Side.A))

    assert Side.B is world.channel(pair).own_side
    assert register(world.context, pair.registration(Side.B)).created is False


def test_scenario_F02_funding_unconfirmed_registration(world: World) -> None:
    """Accepted while nobody saw the funding; no state is taken before its confirmation, then the channel is armed."""
    pair = world.open(confirm=False)
    proposed = world.status(pair)
    world.look()
    seen, status = world.status(pair), get_funding(world.context, world.stream(pair)).status
    number = pair.update()
    with pytest.raises(ChannelNotReady, match="not confirmed"):
        world.upload(pair, number)
    world.node.mine(1)
    world.look()
    world.upload(pair, number)

    assert ("PROPOSED", "FUNDING_BROADCAST", "MEMPOOL", "ACTIVE") == (proposed, seen, status, world.status(pair))
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    assert world.penalty_of(pair, 0) is not None


def test_scenario_F02_updates_wait_for_the_configured_depth(world: World) -> None:
    """With a depth of 3 the channel is ACTIVE, and takes states, from the third confirmation on."""
    policy = ChannelPolicy(world.context.policy.params, confirmations=3)
    deep = msgspec.structs.replace(world.context, policy=policy)
    pair = world.open()
    request = pair.update_request(Side.B, pair.update())
    world.node.mine(1)
    world.look()
    with pytest.raises(ChannelNotReady, match="2 of 3"):
        accept_state(deep, world.stream(pair), request)
    before = get_channel(deep, world.stream(pair)).status
    world.node.mine(1)
    world.look()

    assert "FUNDING_BROADCAST" == before
    assert accept_state(deep, world.stream(pair), request).answer.sequence == 1
    assert "ACTIVE" == get_channel(deep, world.stream(pair)).status


def test_scenario_F02_registered_after_confirmation(world: World) -> None:
    """A funding output that is ten blocks old is found at its own height, also without the transaction."""
    pair = drafted(world)
    world.node.send_raw(pair.funding.raw)
    world.node.mine(10)
    funded_at = world.node.height() - 9
    world.look()
    watch(world, pair, with_funding_tx=False)
    world.look()

    block = world.channel(pair).funding_block
    assert block is not None
    assert (funded_at, world.node.hash_at(funded_at)) == (block.height, block.hash)
    assert world.status(pair) == "ACTIVE"


@pytest.mark.parametrize("restarted", [False, True])
def test_scenario_F03_funding_reorged_out(world: World, restarted: bool) -> None:
    """FUNDING_BROADCAST, no updates, nothing forgotten; updates go on after the next confirmation."""
    pair = world.open(updates=2)
    look = world.restart if restarted else world.look
    world.node.reorg(1)
    look()
    gone = world.status(pair)
    number = pair.update()
    with pytest.raises(ChannelNotReady):
        world.upload(pair, number)
    kept = world.channel(pair).sequence
    world.node.mine(1)
    look()
    world.upload(pair, number)

    assert ("FUNDING_BROADCAST", 2) == (gone, kept)
    assert (number, "ACTIVE") == (world.channel(pair).sequence, world.status(pair))
    events = named(world, pair, FundingConfirmed, FundingDisconnected)
    assert ["FundingConfirmed", "FundingDisconnected", "FundingConfirmed"] == events


@pytest.mark.parametrize("with_funding_tx", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
def test_scenario_F04_funding_double_spent_after_reorg(world: World, with_funding_tx: bool, restarted: bool) -> None:
    """A conflicting transaction confirms: DOUBLE_SPENT, data kept for 100 blocks, then the channel is void."""
    pair = drafted(world)
    conflict = rival(world, pair)
    world.node.send_raw(pair.funding.raw)
    world.node.mine(1)
    watch(world, pair, with_funding_tx=with_funding_tx)
    world.look()
    look = world.restart if restarted else world.look
    world.update(pair, 2)
    world.node.reorg(1, [[conflict], []])
    look()
    status, funding = world.status(pair), get_funding(world.context, world.stream(pair))
    with pytest.raises(ChannelClosed):
        world.upload(pair, pair.update())
    world.node.mine(97)
    look()
    at_99 = world.status(pair)
    world.node.mine(1)
    look()

    assert ("DOUBLE_SPENT", "DOUBLE_SPENT", "DOUBLE_SPENT") == (status, funding.status, at_99)
    assert funding.double_spent_by == TxidHex(Transaction.parse(conflict).txid)
    assert "RESOLVED" == world.status(pair)
    resolved = world.events(pair, ChannelResolved)
    assert [ResolvedAs.DOUBLE_SPENT] == [event.outcome for event in resolved if isinstance(event, ChannelResolved)]
    assert 2 == world.channel(pair).sequence
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def test_scenario_F04_double_spend_is_reorganized_away(world: World) -> None:
    """The conflicting transaction leaves the chain again and the funding confirms: the channel lives on."""
    pair = drafted(world)
    conflict = rival(world, pair)
    watch(world, pair)
    world.node.generate_block([conflict])
    world.look()
    void = world.status(pair)
    world.node.reorg(1, [[pair.funding.raw], []])
    world.look()
    world.update(pair, 1)

    assert ("DOUBLE_SPENT", "ACTIVE") == (void, world.status(pair))
    assert ["FundingDoubleSpent", "FundingDisconnected", "FundingConfirmed"] == named(
        world, pair, FundingDoubleSpent, FundingConfirmed, FundingDisconnected
    )
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def test_scenario_F04_void_channel_is_not_defended(world: World) -> None:
    """A stale commitment of a channel that lost its funding is sent nowhere any more."""
    pair = drafted(world)
    conflict = rival(world, pair)
    world.node.send_raw(pair.funding.raw)
    world.node.mine(1)
    watch(world, pair)
    world.look()
    world.update(pair, 3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.reorg(2, [[conflict], [], []])
    world.look()

    report = world.look()

    assert "DOUBLE_SPENT" == world.status(pair)
    assert (0, ()) == (report.respond.sent, report.respond.outcomes)
    world.restart()
    assert set() == world.node.mempool()
