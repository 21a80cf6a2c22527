"""Updates with a real node and a tower: what is refused leaves the old state defended; crashes lose nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from domain.contract.keys import public_key
from domain.contract.revocation import commitment_point, commitment_secret
from domain.errors import (
    ChannelClosed,
    DomainError,
    Equivocation,
    InvalidSecret,
    InvalidSignature,
    InvalidState,
    SequenceGap,
)
from domain.events import AlertKind, EquivocationFound, SpendKind, SpendReplaced
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.regtest.disputes import ask
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World
from tests.support.parties import Pair, make_party, open_pair
from tests.support.receipts import acknowledge
from watchtower.channels.accept_state import accept_state
from watchtower.channels.register import register
from watchtower.channels.revoke import revoke
from watchtower.client.party import exchange
from watchtower.client.party.exchange import deliver
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol import seat
from watchtower.client.protocol.messages import AnyMessage, Message, UpdateAccept, UpdateReject
from watchtower.demo import cheater
from watchtower.wire.api import RevocationRequest
from watchtower.wire.hexes import Hex33, Hex64, SecretHex

NAMES = ("carol", "dave")
OTHER = (400_000, 600_000)


def test_scenario_F06_update_gap(world: World) -> None:
    """A skipped number is refused, a repetition changes nothing, other bytes are equivocation and leave evidence."""
    pair = world.open(updates=2)
    pair.updates(2)
    with pytest.raises(SequenceGap):
        world.upload(pair, 4)
    before = world.store.last_id()
    repeated = accept_state(world.context, world.stream(pair), pair.update_request(Side.B, 2))
    with pytest.raises(Equivocation):
        accept_state(world.context, world.stream(pair), pair.forged_update(Side.B, (400_000, 600_000), sequence=2))

    assert repeated.duplicate
    assert before + 2 == world.store.last_id()
    assert (1, {AlertKind.EQUIVOCATION}) == (len(world.events(pair, EquivocationFound)), world.channel(pair).alerts)
    world.upload(pair, 3)
    world.upload(pair, 4)
    assert 4 == world.channel(pair).sequence


@pytest.mark.parametrize("balances", [(500_000, 499_999), (500_000, 500_001), (1_000_000, 1_000_000)])
def test_scenario_F07_sum_mismatch(world: World, balances: tuple[int, int]) -> None:
    """Both signed it, but the sum is not the capacity: refused, and the old state stays defended."""
    pair = world.open(updates=1)

    with pytest.raises(InvalidState):
        accept_state(world.context, world.stream(pair), pair.forged_update(Side.B, balances))

    assert 1 == world.channel(pair).sequence
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    assert world.penalty_of(pair, 0) is not None


def test_scenario_F07_negative_balance(world: World) -> None:
    """A balance has no sign on the wire: what stands for -1 is far above the capacity, and refused."""
    pair = world.open(updates=1)

    with pytest.raises(DomainError):
        pair.b.offer(pair.channel_id, (1_000_001, -1))
    with pytest.raises(InvalidState):
        accept_state(world.context, world.stream(pair), pair.forged_update(Side.B, (1_000_001, 2**64 - 1)))

    assert 1 == world.channel(pair).sequence


@pytest.mark.parametrize("name", ["state", "settle_a", "settle_b", "commit_peer"])
def test_scenario_F08_bad_settle_signature_before_commit_release(world: World, name: str) -> None:
    """The tower verifies what the parties do: a state with one bad signature is not taken, the right one then is."""
    pair = world.open(updates=1)
    request = pair.update_request(Side.B, pair.update())
    signed = request.state.signatures
    bad = msgspec.structs.replace(signed, a=msgspec.structs.replace(signed.a, **{name: Hex64(bytes(64))}))

    with pytest.raises(InvalidSignature):
        accept_state(
            world.context,
            world.stream(pair),
            msgspec.structs.replace(request, state=msgspec.structs.replace(request.state, signatures=bad)),
        )

    assert 1 == world.channel(pair).sequence
    world.upload(pair, 2)
    assert 2 == world.channel(pair).sequence


def test_scenario_F09_secret_wrong_point(world: World) -> None:
    """A secret that is not of the announced point is refused; its state is still an honest close."""
    pair = world.open(updates=1)
    request = pair.update_request(Side.B, pair.update())
    wrong = msgspec.structs.replace(request, revoked_secret=SecretHex(b"\x07" * 32))

    with pytest.raises(InvalidSecret, match="point"):
        accept_state(world.context, world.stream(pair), wrong)

    assert (1, 0) == (world.channel(pair).sequence, world.channel(pair).highest_revoked)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    spend = world.channel(pair).confirmed_spend
    assert spend is not None
    assert SpendKind.PEER_CLOSE is spend.kind


def test_scenario_F10_shachain_inconsistent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that fits its point but not the earlier ones is refused by party and tower; its close is settled."""
    pair = world.open(challenge_period=3)
    real_secret, real_point, seed = commitment_secret, commitment_point, pair.secrets(Side.A).seed
    foreign = bytes(31) + b"\x42"
    monkeypatch.setattr(cheater, "commitment_point", lambda s, n: real_point(_chosen(s, seed, n, foreign), n))
    monkeypatch.setattr(seat, "commitment_secret", lambda s, n: real_secret(_chosen(s, seed, n, foreign), n))
    monkeypatch.setattr(seat, "commitment_point", lambda s, n: real_point(_chosen(s, seed, n, foreign), n))
    world.update(pair, 3)
    with pytest.raises(InvalidSecret, match="contradicts"):
        pair.update()
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.look()

    secret = real_secret(foreign, 3)
    request = RevocationRequest(
        party="A", sequence=3, secret=SecretHex(secret), next_point=Hex33(real_point(foreign, 5))
    )
    with pytest.raises(InvalidSecret, match="contradicts"):
        revoke(world.context, world.stream(pair), request)
    assert AlertKind.SECRET_INCONSISTENT in world.channel(pair).alerts
    world.node.mine(2)
    world.look()
    world.node.mine(1)
    world.look()

    assert public_key(secret) == real_point(foreign, 3)
    assert "SETTLED" == world.status(pair)


def _chosen(asked: bytes, seed: bytes, number: int, foreign: bytes) -> bytes:
    return foreign if asked == seed and number >= 3 else asked


# ── F11, F12: crashes ────────────────────────────────────────────────────────────────────────────────────


class PowerCut(Exception):
    """The process of a party died here."""


class Disks:
    """What survives the parties, and the n-th write at which B's process dies."""

    def __init__(self) -> None:
        self.stores = (MemoryEventStore(), MemoryEventStore())
        self.keystores = (MemoryKeystore(), MemoryKeystore())
        self.writes_left: int | None = None

    def start(self, side: Side) -> ChannelParty:
        """The party of a side, from its disk."""
        failpoint = self._fail if side is Side.B else lambda name: None
        return make_party(NAMES[side], store=self.stores[side], keystore=self.keystores[side], failpoint=failpoint)

    def restart(self, pair: Pair) -> Pair:
        """Both parties anew."""
        self.writes_left = None
        return Pair((self.start(Side.A), self.start(Side.B)), pair.names, pair.channel_id, pair.funding)

    def _fail(self, name: str) -> None:
        if name == "store:before" and self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise PowerCut(name)


def opened(world: World, disks: Disks) -> Pair:
    """A confirmed channel that B's tower watches, T = 4."""
    pair = open_pair(world.fund, names=NAMES, parties=(disks.start(Side.A), disks.start(Side.B)), challenge_period=4)
    register(world.context, pair.registration(Side.B))
    world.node.send_raw(pair.funding.raw)
    world.node.mine(1)
    world.look()
    return pair


def crashed_between_2_and_3(world: World, disks: Disks) -> Pair:
    """B has stored message 2 of the update to state 1 and dies before message 3 is stored or sent."""
    pair = opened(world, disks)

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        if isinstance(message, UpdateAccept):
            disks.writes_left = 1
        return deliver(sender, message)

    with pytest.raises(PowerCut):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, OTHER), carry)
    return disks.restart(pair)


def lose_after(count: int) -> exchange.Carry:
    """A wire that loses everything but the first messages."""
    left = iter(range(count))
    return lambda sender, message: deliver(sender, message) if next(left, None) is not None else ()


def test_scenario_F11_crash_between_msg_2_and_3(world: World) -> None:
    """After the restart both states can be published and no secret is out; the older one closes honestly."""
    disks = Disks()
    pair = crashed_between_2_and_3(world, disks)
    channel = pair.b.channel(pair.channel_id)
    assert channel.pending is not None
    assert channel.pending.acceptance is not None
    older, newer = (pair.b.sign_commitment(pair.channel_id, number) for number in (0, 1))

    assert ("", "") == (world.node.test_accept(older), world.node.test_accept(newer))
    assert (0, -1) == (channel.sequence, channel.own_released)
    world.node.generate_block([older])
    world.node.mine(3)
    world.look()
    world.node.mine(1)
    world.look()
    assert "SETTLED" == world.status(pair)


def test_scenario_F11_the_newer_state_is_settled_by_the_own_tower(world: World) -> None:
    """B closes with the state whose message 3 never left: its tower gets it first, and settles it."""
    disks = Disks()
    pair = crashed_between_2_and_3(world, disks)
    name = pair.channel_id.hex()

    first = ask(world, pair, lambda client: client.close_channel_unilateral(name, 1))
    again = ask(world, pair, lambda client: client.close_channel_unilateral(name, 1))
    world.node.mine(1)
    world.look()
    world.node.mine(3)
    world.look()
    world.node.mine(1)
    world.look()

    assert ("IN_MEMPOOL", first.txid) == (first.outcome, again.txid)
    assert "SETTLED" == world.status(pair)
    assert -1 == pair.b.channel(pair.channel_id).own_released


def test_scenario_F11_the_update_is_finished_after_the_crash(world: World) -> None:
    """Reconnected, the parties finish the same state; after its upload the older one is a breach."""
    disks = Disks()
    pair = crashed_between_2_and_3(world, disks)
    exchange.reconnect(pair.b, pair.a, pair.channel_id)
    world.upload(pair, 1)
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    world.node.mine(1)
    world.look()

    assert (1, OTHER) == (pair.sequence, pair.balances)
    assert "PUNISHED" == world.status(pair)


def test_scenario_F12_crash_after_secret_release_before_tower_ack(world: World) -> None:
    """The upload is repeated byte for byte; the state is final only after the tower's answer."""
    disks = Disks()
    pair = opened(world, disks)
    acknowledge(pair.b, pair.channel_id, 0)
    pair.update()
    lost = pair.update_request(Side.B, 1)
    pair = disks.restart(pair)
    before = pair.b.channel(pair.channel_id).final_sequence
    repeated = pair.update_request(Side.B, 1)
    first = accept_state(world.context, world.stream(pair), repeated)
    again = accept_state(world.context, world.stream(pair), lost)
    acknowledge(pair.b, pair.channel_id, 1)

    assert lost == repeated
    assert (False, True) == (first.duplicate, again.duplicate)
    assert first.answer == again.answer
    assert (0, 1) == (before, pair.b.channel(pair.channel_id).final_sequence)


def test_scenario_F12_peer_publishes_before_the_upload_is_repeated(world: World) -> None:
    """No state is taken any more, but the late secret is: the close that looked honest is punished."""
    disks = Disks()
    pair = opened(world, disks)
    pair.update()
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    seen = world.channel(pair).confirmed_spend
    pair = disks.restart(pair)
    with pytest.raises(ChannelClosed):
        world.upload(pair, 1)
    revoke(world.context, world.stream(pair), pair.b.peer_release_body(pair.channel_id, 0))
    world.restart()
    world.node.mine(1)
    world.look()

    assert seen is not None
    assert SpendKind.PEER_CLOSE is seen.kind
    assert "PUNISHED" == world.status(pair)
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


# ── F15, F16 ─────────────────────────────────────────────────────────────────────────────────────────────


def test_scenario_F15_abandoned_proposal(world: World) -> None:
    """Message 1 binds both sides to one content; what is left is the same content, or a close with the state before."""
    pair = world.open(updates=2, challenge_period=3)
    before = (pair.balances[0] - 5_000, pair.balances[1] + 5_000)
    offer = pair.b.offer(pair.channel_id, before)
    exchange.run(pair.b, pair.a, offer, lose_after(3))  # the answer to message 1 is lost

    with pytest.raises(Equivocation, match="U5"):
        pair.b.offer(pair.channel_id, OTHER)
    assert offer == pair.b.offer(pair.channel_id, before)
    world.node.send_raw(pair.b.sign_commitment(pair.channel_id, 2))
    world.node.mine(3)
    world.look()
    world.node.mine(1)
    world.look()
    assert "SETTLED" == world.status(pair)
    assert world.height_of(Transaction.parse(pair.settlement(Side.B, 2)).txid) == world.node.height()


def test_scenario_F15_second_header_is_refused_by_the_tower(world: World) -> None:
    """A stored state stands, whoever signed another one with the same number."""
    pair = world.open(updates=2)
    stored = world.channel(pair).state_hash

    with pytest.raises(Equivocation):
        accept_state(world.context, world.stream(pair), pair.forged_update(Side.B, OTHER, sequence=2))

    assert stored == world.channel(pair).state_hash


def test_scenario_F16_update_after_close_signature(world: World) -> None:
    """After a close signature neither party offers or takes an update."""
    pair = world.open(updates=2)
    (offer,) = pair.b.offer(pair.channel_id, OTHER)
    pair.b.propose_close(pair.channel_id, pair.balances, 1_000)

    with pytest.raises(ChannelClosed, match="U6"):
        pair.b.offer(pair.channel_id, OTHER)
    pair.close(Side.A)
    (answer,) = (reply for arrived in deliver(pair.b, offer) for reply in pair.a.receive(arrived))
    assert isinstance(answer, UpdateReject)
    assert "U6" in answer.reason


@pytest.mark.parametrize("restarted", [False, True])
def test_scenario_F16_the_tower_takes_no_state_once_a_close_was_seen(world: World, restarted: bool) -> None:
    """Also not after the close was evicted: whoever has its bytes can send it again."""
    pair = world.open(updates=2)
    number = pair.update()
    world.node.send_raw(pair.close(Side.A))
    world.look()
    waiting = world.status(pair)
    with pytest.raises(ChannelClosed):
        world.upload(pair, number)
    world.node.restart(["-persistmempool=0"])
    (world.restart if restarted else world.look)()

    assert ("COOP_CLOSING", 1) == (waiting, len(world.events(pair, SpendReplaced)))
    with pytest.raises(ChannelClosed):
        world.upload(pair, number)
    assert 2 == world.channel(pair).sequence
