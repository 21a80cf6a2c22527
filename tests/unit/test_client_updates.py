"""`update_state` and the HTLC calls with a peer: the exchange, its repetition, its refusals, strict and async mode."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.errors import ChannelNotReady, Equivocation, InvalidState, MalformedInput, SequenceGap
from domain.units import Side
from tests.support.sdk import CONFIG, HALF, Desk, Ends, desk, tower_at
from tests.support.towers import TIP, TOKEN
from watchtower.client import StateChannelClient, StateUpdate, UpdateResult
from watchtower.client.errors import ConfigurationError, NotConnected, TowerUnreachable
from watchtower.client.peer_errors import PeerError, PeerRefused
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.messages import Message

pytestmark = pytest.mark.asyncio

PREIMAGE = b"\x07" * 32
HASH = sha256(PREIMAGE).hexdigest()


def update(channel_id: str, number: int, paid: int = 1_000, data: str | bytes = "payment") -> StateUpdate:
    """Alice has paid Bob this much in all."""
    return StateUpdate(channel_id, number, [HALF - paid, HALF + paid], data)


class Gate(httpx.AsyncBaseTransport):
    """Carries to a tower; while `closed` uploads do not get through."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry or fail."""
        if self.closed and request.method == "POST":
            raise httpx.ConnectError("no route")
        return await self.inner.handle_async_request(request)


def gated(directory: Path) -> tuple[Gate, dict[str, object]]:
    """A gate before a tower, and what `desk` needs to use it."""
    tower = tower_at(directory)
    gate = Gate(tower.transport())
    return gate, {"tower": tower, "transport": gate}


async def test_updates_in_and_out_of_turn_are_final(tmp_path: Path) -> None:
    """Each returns when the tower holds it; the counterparty has the same state."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        first = await at.client.update_state(update(channel_id, 1))
        second = await at.client.update_state(update(channel_id, 2, 2_000, b"\x00\xff"))
        stored = await at.client.get_channel_state(channel_id)

        newest = at.bob.state(bytes.fromhex(channel_id), 2).content
        assert UpdateResult(channel_id, 1, 1, first.state_hash, receipt=first.receipt) == first
        assert UpdateResult(channel_id, 2, 2, newest.state_hash.hex(), receipt=second.receipt) == second
        assert (2, (HALF - 2_000, HALF + 2_000), "00ff") == (stored.sequence, stored.balances, stored.state_data)


async def test_the_same_update_again_changes_nothing(tmp_path: Path) -> None:
    """Also after later states; and the signatures that were made may be given."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        first = await at.client.update_state(update(channel_id, 1))
        made = await at.client.get_channel_state(channel_id)
        await at.client.update_state(update(channel_id, 2, 2_000))
        pair = (made.signatures.a, made.signatures.b)
        texts = [each.state + each.settle_a + each.settle_b + each.commit_peer for each in pair]
        again = await at.client.update_state(StateUpdate(channel_id, 1, (HALF - 1_000, HALF + 1_000), "payment", texts))

        assert (True, first.state_hash, 2) == (again.duplicate, again.state_hash, at.bob.channels()[0].sequence)


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        (update("", 1, 2_000), Equivocation, "state 1 exists with other content: balances"),
        (update("", 1, data="other"), Equivocation, "state_data differs"),
        (update("", 3), SequenceGap, "state 2 comes next, sequence_number is 3"),
        (StateUpdate("", 2, [HALF]), InvalidState, "two balances, got 1"),
        (StateUpdate("", 2, [HALF, HALF + 1]), InvalidState, "capacity|add up|sum"),
        (StateUpdate("", 2, [-1, 2 * HALF + 1]), InvalidState, "negative"),
        (StateUpdate("", 2, [HALF, HALF], "", ["sig1", "sig2"]), InvalidState, "leave them out"),
        (StateUpdate("nonsense", 2, [HALF, HALF]), MalformedInput, "64 hexadecimal digits, got 'nonsense'"),
    ],
)
async def test_updates_that_are_refused(
    tmp_path: Path, wanted: StateUpdate, error: type[Exception], words: str
) -> None:
    """Every refusal says what was wrong, and no state is begun."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        await at.client.update_state(update(channel_id, 1))
        named = StateUpdate(
            wanted.channel_id or channel_id,
            wanted.sequence_number,
            wanted.balances,
            wanted.state_data,
            wanted.signatures,
        )
        with pytest.raises(error, match=words):
            await at.client.update_state(named)

        assert (1, None) == (at.alice.channels()[0].sequence, at.alice.channels()[0].pending)


async def test_no_update_before_the_funding_is_confirmed(tmp_path: Path) -> None:
    """The tower is asked first: nothing is signed that it would not take."""
    async with desk(tmp_path) as at:
        created = await at.client.create_channel(at.params())
        with pytest.raises(ChannelNotReady, match="not confirmed deep enough"):
            await at.client.update_state(update(created.channel_id, 1))

        assert None is at.alice.channels()[0].pending


async def test_the_peer_agrees_to_gains_and_to_what_its_owner_approved(tmp_path: Path) -> None:
    """A state that costs the peer something is refused with its reason, until it approves exactly this one."""
    async with desk(tmp_path, ends=Ends(consent=never_lose)) as at:
        channel_id = await at.open()
        wanted = update(channel_id, 1, -5_000)
        with pytest.raises(PeerRefused, match="leaves B 495000 sat"):
            await at.client.update_state(wanted)
        bob = StateChannelClient(CONFIG, party=at.bob)
        await bob.approve_update(wanted)
        result = await at.client.update_state(wanted)
        await bob.approve_update(wanted)

        assert (1, False) == (result.sequence, result.duplicate)


async def test_both_clients_may_ask_for_the_same_state(tmp_path: Path) -> None:
    """Whoever comes second finds the state made."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        results = await asyncio.gather(*(at.client.update_state(update(channel_id, 1)) for _ in range(3)))

        assert [False, True, True] == sorted(result.duplicate for result in results)
        assert 1 == at.bob.channels()[0].sequence


async def test_a_silent_peer_leaves_the_call_to_be_repeated(tmp_path: Path) -> None:
    """The error is typed, and a client without a peer says that it has none."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        await at.two.b.stop()
        with pytest.raises(PeerError, match=r"did not answer|ended"):
            await at.client.update_state(update(channel_id, 1))
        at.client.peer = None
        with pytest.raises(NotConnected, match="made with a peer"):
            await at.client.add_htlc(channel_id, 10_000, HASH, TIP + 500)


async def test_strict_mode_returns_when_the_tower_has_it(tmp_path: Path) -> None:
    """Without the tower the call fails though both parties have the state; repeated, it only uploads."""
    gate, options = gated(tmp_path)
    async with desk(tmp_path, **options) as at:  # type: ignore[arg-type]
        channel_id = await at.open()
        gate.closed = True
        with pytest.raises(TowerUnreachable):
            await at.client.update_state(update(channel_id, 1))
        gate.closed = False
        repeated = await at.client.update_state(update(channel_id, 1))

        assert (1, 1, True) == (repeated.sequence, repeated.final_sequence, repeated.duplicate)


async def test_an_update_costs_the_tower_two_requests(tmp_path: Path) -> None:
    """The first one asks where the tower stands; from then on a state and the own revocation go up, no more."""
    tower = tower_at(tmp_path)
    asked: list[str] = []

    async def note(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path.rsplit('/', 1)[1]}")
        return await tower.transport().handle_async_request(request)

    async with desk(tmp_path, tower=tower, transport=httpx.MockTransport(note)) as at:
        channel_id = await at.open()
        await at.client.update_state(update(channel_id, 1))
        asked.clear()
        result = await at.client.update_state(update(channel_id, 2, 2_000))

        assert ["POST states", "POST revocations"] == asked
        assert (2, 2) == (result.sequence, result.final_sequence)


async def test_async_mode_lets_the_tower_lag_so_many_states(tmp_path: Path) -> None:
    """Two states may be on their way, the third waits; `disconnect` brings what is left."""
    gate, options = gated(tmp_path)
    async with desk(tmp_path, max_unacked=2, **options) as at:  # type: ignore[arg-type]
        channel_id = await at.open()
        gate.closed = True
        early = [await at.client.update_state(update(channel_id, number, number)) for number in (1, 2)]
        with pytest.raises(TowerUnreachable):
            await at.client.update_state(update(channel_id, 3, 3))
        gate.closed = False
        await at.client.disconnect()
        held = at.tower.services.get_channel(channel_id)

        assert [0, 0] == [each.final_sequence for each in early]
        assert (3, 3) == (held.current_sequence, at.alice.channels()[0].final_sequence)


async def test_max_unacked_has_a_limit() -> None:
    """More than ten states in the air are not offered."""
    with pytest.raises(ConfigurationError, match="between 0 and 10, got 11"):
        StateChannelClient(CONFIG, max_unacked=11)


# ── HTLCs ────────────────────────────────────────────────────────────────────────────────────────────────


async def with_htlc(at: Desk) -> str:
    """A channel in which Alice offers 20,000 sat."""
    channel_id = await at.open()
    added = await at.client.add_htlc(channel_id, 20_000, HASH, TIP + 500)
    again = await at.client.add_htlc(channel_id, 20_000, HASH, TIP + 500)
    assert (False, True, 1, 1) == (added.duplicate, again.duplicate, added.sequence, again.sequence)
    return channel_id


class Interrupted:
    """A peer whose connection breaks after the exchange; much happens until the call is made again, as it may be."""

    def __init__(self, at: Desk, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._link, self._meanwhile = at.two.a, meanwhile

    async def advance(self, channel_id: bytes, offer: Callable[[], Iterable[Message]]) -> int:
        """See `ServedPeer.advance`, which repeats a call that was cut off."""
        await self._link.advance(channel_id, offer)
        await self._meanwhile()
        return await self._link.advance(channel_id, offer)


async def test_an_htlc_that_is_paid_while_its_call_is_repeated_is_not_added_again(tmp_path: Path) -> None:
    """A peer that takes it, makes a further state and only then says where it stands would be paid twice."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        name = bytes.fromhex(channel_id)

        async def paid_and_gone() -> None:
            async with bobs(at) as bob:
                await bob.fulfil_htlc(channel_id, PREIMAGE)
            await at.two.b.update(name, (HALF - 20_000 + 1, HALF + 20_000 - 1))
            await at.two.b.update(name, (HALF - 20_000 + 2, HALF + 20_000 - 2))

        at.client.peer = Interrupted(at, paid_and_gone)  # type: ignore[assignment]
        added = await at.client.add_htlc(channel_id, 20_000, HASH, TIP + 500)

        assert (True, ()) == (added.duplicate, at.alice.channel(name).conditions)
        assert HALF - 20_000 + 2 == at.alice.channel(name).balances[0]


def bobs(at: Desk) -> StateChannelClient:
    """Bob's calls without a tower of his own: Alice's is enough to be asked for a status."""
    client = StateChannelClient(
        CONFIG, url="http://tower", token=TOKEN, party=at.bob, peer=at.two.b, transport=at.tower.transport()
    )
    client.finality = None
    return client


async def test_an_htlc_is_added_once_and_fulfilled(tmp_path: Path) -> None:
    """The same HTLC is not added twice; its preimage moves the amount to Bob, and Alice knows it."""
    async with desk(tmp_path) as at:
        channel_id = await with_htlc(at)
        bob = bobs(at)
        await bob.connect()
        with pytest.raises(InvalidState, match="no HTLC of the peer has hash"):
            await bob.fulfil_htlc(channel_id, b"\x08" * 32)
        result = await bob.fulfil_htlc(channel_id, PREIMAGE)
        await bob.disconnect()

        channel = at.alice.channel(bytes.fromhex(channel_id))
        assert (2, (), (HALF - 20_000, HALF + 20_000)) == (result.sequence, channel.conditions, channel.balances)
        assert PREIMAGE == at.alice.preimage(bytes.fromhex(HASH))


async def test_an_htlc_fails_back(tmp_path: Path) -> None:
    """Bob gives it up, Alice has her money again."""
    async with desk(tmp_path) as at:
        channel_id = await with_htlc(at)
        bob = bobs(at)
        await bob.connect()
        await bob.fail_htlc(channel_id, HASH, "unknown payment")
        await bob.disconnect()

        assert ((), (HALF, HALF)) == (at.alice.channels()[0].conditions, at.alice.channels()[0].balances)


async def test_an_update_keeps_pending_htlcs(tmp_path: Path) -> None:
    """Balances change, conditions stay unless they are named; () would drop them, which needs consent."""
    async with desk(tmp_path) as at:
        channel_id = await with_htlc(at)
        await at.client.update_state(StateUpdate(channel_id, 2, [HALF - 21_000, HALF + 1_000]))

        (condition,) = at.alice.channels()[0].conditions
        assert (20_000, Side.A, bytes.fromhex(HASH)) == (condition.amount, condition.offerer, condition.hash)


async def test_an_htlc_expires_after_its_height(tmp_path: Path) -> None:
    """Before its height it stays; the party knows the height because the client asked the tower."""
    async with desk(tmp_path) as at:
        channel_id = await with_htlc(at)
        with pytest.raises(InvalidState, match="expire"):
            await at.client.expire_htlc(channel_id, HASH)
        with pytest.raises(MalformedInput, match="a payment hash has 64"):
            await at.client.expire_htlc(channel_id, "ab")
        at.bob.note_height(TIP + 600)
        at.tower.standing = type(at.tower.standing)(
            operational=True, watching=True, phase="watching", height=TIP + 600, tip_hash=bytes(32)
        )
        await at.client.expire_htlc(channel_id, HASH)

        assert ((), (HALF, HALF)) == (at.alice.channels()[0].conditions, at.alice.channels()[0].balances)


@pytest.mark.parametrize("balances", [(HALF - 1_000.0, HALF + 1_000.0), (0.5, 0.5), (str(HALF), str(HALF)), (True, 0)])
async def test_amounts_that_are_no_whole_satoshi_change_nothing(tmp_path: Path, balances: Any) -> None:
    """They are refused by name before anything is built, and the same balances in satoshi are taken afterwards."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: at.client.update_state(StateUpdate(channel_id, 1, balances, "payment")),
            lambda: at.client.approve_close(channel_id, balances),
            lambda: at.client.close_channel_cooperative(channel_id, balances),
            lambda: at.client.add_htlc(channel_id, balances[0], HASH, TIP + 500),
        )
        for call in calls:
            with pytest.raises(MalformedInput, match="whole satoshi as int, got"):
                await call()
        made = await at.client.update_state(update(channel_id, 1))

        assert 1 == made.final_sequence


async def test_a_close_with_a_pending_htlc_says_so(tmp_path: Path) -> None:
    """Its balances cannot add up; what helps is to end the HTLC."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        await at.client.add_htlc(channel_id, 20_000, HASH, TIP + 500)
        balances = (await at.client.get_channel_info(channel_id)).balances

        with pytest.raises(InvalidState, match="conditions are pending: 1 hold 20000 sat; fulfil, fail or expire"):
            await at.client.close_channel_cooperative(channel_id, balances)
