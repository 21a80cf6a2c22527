"""Rules U1 to U5 under every fault of process and wire, at every message of every kind of update.

After any fault both parties restart, reconnect, and then stand in one state, with which they go on or close.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.contract.params import SEGWIT, TAPROOT
from domain.errors import ChannelClosed, SelfBreach
from domain.transaction import Transaction
from domain.units import Side
from tests.support.faults import Crashed, Disks, Fault, Net, opened
from tests.support.parties import Pair, made_up_funding, preimage_of
from tests.support.receipts import acknowledge
from watchtower.client.party import exchange
from watchtower.client.party.party import Change, ChannelParty, NewHtlc
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.messages import Message
from watchtower.client.protocol.opening import Terms

EXPIRY = 100_000

FAR = 1_000
"""More steps or messages than any of these exchanges has."""

Action = Callable[[ChannelParty, bytes], list[Message]]


def pay(amount: int) -> Action:
    """A payment to the other side."""
    return lambda party, channel_id: party.change(channel_id, Change(pay=amount))


def add(number: int) -> Action:
    """An HTLC to the other side, whose preimage is `preimage_of(number)`, with a note."""
    new = NewHtlc(10_000 + number, sha256(preimage_of(number)).digest(), EXPIRY, b"note")
    return lambda party, channel_id: party.change(channel_id, Change(add=(new,)))


def incoming(party: ChannelParty, channel_id: bytes) -> list[tuple[tuple[int, int], bytes]]:
    """HTLCs to a party with their payment hashes."""
    channel = party.channel(channel_id)
    return [(c.key, c.hash) for c in channel.conditions if c.offerer is channel.peer]


def fulfil(party: ChannelParty, channel_id: bytes) -> list[Message]:
    """Take every incoming HTLC."""
    secrets = {sha256(preimage_of(number)).digest(): preimage_of(number) for number in range(20)}
    wanted = tuple((key, secrets[payment_hash]) for key, payment_hash in incoming(party, channel_id))
    return party.change(channel_id, Change(fulfil=wanted))


def fail(party: ChannelParty, channel_id: bytes) -> list[Message]:
    """Give every incoming HTLC back whose preimage is not known here."""
    known = [key for key, payment_hash in incoming(party, channel_id) if party.preimage(payment_hash) is None]
    return party.change(channel_id, Change(fail=tuple((key, "no") for key in known)))


# State 3 is B's: what A does in it needs B's turn.
KINDS: dict[str, list[tuple[Side, Action]]] = {
    "in turn": [(Side.B, pay(500))],
    "out of turn": [(Side.A, pay(500))],
    "with an HTLC out of turn": [(Side.A, add(1))],
    "an HTLC and its fulfilment": [(Side.A, add(1)), (Side.B, fulfil)],
    "an HTLC and its failure": [(Side.B, add(1)), (Side.A, fail)],
    "crossing": [(Side.A, pay(300)), (Side.B, pay(200))],
}


@cache
def at_state_2(profile: int) -> tuple[Disks, Pair]:
    """Made once: every test goes on from a copy."""
    disks = Disks(never_lose, profile)
    return disks, opened(disks, 2)


POINTS: dict[str, tuple[int, int]] = {
    "in turn": (9, 13),
    "out of turn": (15, 9),
    "with an HTLC out of turn": (15, 9),
    "an HTLC and its fulfilment": (26, 24),
    "an HTLC and its failure": (22, 22),
    "crossing": (12, 14),
}
"""How often A and B store, have stored, or are about to send. Each of these is a place to die."""

MESSAGES = {
    "in turn": 6,
    "out of turn": 7,
    "with an HTLC out of turn": 8,
    "an HTLC and its fulfilment": 16,
    "an HTLC and its failure": 14,
    "crossing": 8,
}

DEATHS = [(kind, side, step) for kind, passed in POINTS.items() for side in Side for step in range(passed[side])]
BROKEN = [(kind, fault, number) for kind, sent in MESSAGES.items() for fault in Fault for number in range(sent)]


def channel(profile: int = TAPROOT) -> tuple[Disks, Pair]:
    """A channel at state 2 between careful parties."""
    disks, pair = at_state_2(profile)
    twin = disks.copy()
    return twin, twin.restart(pair)


def play(net: Net, kind: str) -> None:
    """The actions of a kind; crossing ones leave before anything arrives."""
    for side, action in KINDS[kind]:
        net.act(side, lambda party, action=action: action(party, net.pair.channel_id))
        if kind != "crossing":
            net.talk()
    net.talk()


def assert_sound(pair: Pair) -> None:
    """Both stand in one state, everything before it is revoked and cannot be published, and they go on."""
    first, second = (party.channel(pair.channel_id) for party in pair.parties)
    assert first.state == second.state
    assert (first.frozen, second.frozen) == (None, None)
    for party in pair.parties:
        own = party.channel(pair.channel_id)
        assert own.own_released == own.peer_revoked == own.sequence - 1
        with pytest.raises(SelfBreach):
            party.sign_commitment(pair.channel_id, own.sequence - 1)
    before = pair.sequence
    assert pair.update((pair.balances[0] - 1, pair.balances[1] + 1), first.conditions) == before + 1
    newest = Transaction.parse(pair.a.sign_commitment(pair.channel_id, before + 1))
    assert newest.txid == pair.commitment_txid(Side.A, before + 1)


@pytest.mark.parametrize(("kind", "side", "step"), DEATHS)
def test_death_at_every_step(kind: str, side: Side, step: int) -> None:
    """Before storing, after storing, before sending: whoever dies, both end in one state."""
    disks, pair = channel()
    net = Net(disks, pair)
    disks.points[side].left = step

    play(net, kind)

    assert_sound(net.heal())


@pytest.mark.parametrize(("kind", "side", "step"), [each for each in DEATHS if "fulfilment" in each[0]])
def test_death_at_every_step_without_taproot(kind: str, side: Side, step: int) -> None:
    """The other profile has the same exchange with other signatures."""
    disks, pair = channel(SEGWIT)
    net = Net(disks, pair)
    disks.points[side].left = step

    play(net, kind)

    assert_sound(net.heal())


@pytest.mark.parametrize(("kind", "fault", "number"), BROKEN)
def test_every_fault_at_every_message(kind: str, fault: Fault, number: int) -> None:
    """One message is lost, doubled, delayed, followed by an old one, or the last of its sender or receiver."""
    disks, pair = channel()
    net = Net(disks, pair, {number: fault})

    play(net, kind)

    assert_sound(net.heal())


@pytest.mark.parametrize("kind", list(KINDS))
def test_without_faults_every_kind_ends(kind: str) -> None:
    """The kinds themselves do what they say, and no step and no message of theirs is without a fault above."""
    disks, pair = channel()
    net = Net(disks, pair)
    for point in disks.points:
        point.left = FAR

    play(net, kind)
    passed = tuple(FAR - (point.left or 0) for point in disks.points)

    assert pair.sequence >= 3
    assert (POINTS[kind], MESSAGES[kind]) == (passed, net.sent)
    assert_sound(net.heal())


# A wire that breaks after `cut` messages of a payment out of turn, and what A and B pass when they reconnect then.
RESUMED = [(13, 9), (13, 8), (11, 8), (8, 7), (8, 5), (3, 4), (2, 1), (0, 0)]


def cut_off(cut: int) -> tuple[Disks, Net]:
    """Both parties have died after so many messages arrived, and are there again."""
    disks, pair = channel()
    net = Net(disks, pair, dict.fromkeys(range(cut, FAR), Fault.LOSE))
    play(net, "out of turn")
    net.faults.clear()
    for side in Side:
        net.parties[side] = disks.start(side)
    return disks, net


@pytest.mark.parametrize("cut", range(MESSAGES["out of turn"] + 1))
def test_the_steps_of_a_reconnection(cut: int) -> None:
    """So many places to die are there; the next test dies at each of them."""
    disks, net = cut_off(cut)
    for point in disks.points:
        point.left = FAR

    net.hello()

    assert RESUMED[cut] == tuple(FAR - (point.left or 0) for point in disks.points)


@pytest.mark.parametrize(
    ("cut", "side", "step"),
    [(cut, side, step) for cut, passed in enumerate(RESUMED) for side in Side for step in range(passed[side])],
)
def test_death_at_every_step_of_a_reconnection(cut: int, side: Side, step: int) -> None:
    """An exchange was cut off, and while it goes on after `reestablish` somebody dies again: still one state."""
    disks, net = cut_off(cut)
    disks.points[side].left = step

    net.hello()

    assert_sound(net.heal())


# A transport keeps the order of one connection. An offer that was replaced and arrives after the other content is
# complete is a second content for that number, which freezes the channel by the letter of rule U5.
IN_ORDER = [fault for fault in Fault if fault not in {Fault.REPLAY, Fault.DELAY}]

ACTIONS: list[Action] = [pay(100), pay(1), add(2), add(3), fulfil, fail]


@pytest.mark.timeout(900)  # 5,000 examples of the large profile
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(list(Side)), st.integers(0, len(ACTIONS) - 1), st.booleans()), min_size=1, max_size=6
    ),
    faults=st.dictionaries(st.integers(0, 60), st.sampled_from(IN_ORDER), max_size=6),
    deaths=st.dictionaries(st.integers(0, 5), st.tuples(st.sampled_from(list(Side)), st.integers(0, 12)), max_size=3),
)
def test_random_lives_end_in_one_state(
    steps: list[tuple[Side, int, bool]], faults: dict[int, Fault], deaths: dict[int, tuple[Side, int]]
) -> None:
    """Payments and HTLCs in any order, also crossing, with any faults: never a broken rule, always a common end."""
    disks, pair = channel()
    net = Net(disks, pair, faults)

    for number, (side, action, waits) in enumerate(steps):
        victim, step = deaths.get(number, (side, 10**6))
        disks.points[victim].left = step
        net.act(side, lambda party, action=action: ACTIONS[action](party, pair.channel_id))
        for _ in range(int(waits)):
            net.talk()
    net.talk()

    assert_sound(net.heal())


# ── finality ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("acknowledged", [-1, 0, 2, 3, 9])
@pytest.mark.parametrize("number", range(8))
def test_final_is_what_both_peer_and_tower_confirmed(number: int, acknowledged: int) -> None:
    """U4 after a cut at any message: never above the peer's revocations plus one, never above the tower's answer."""
    disks, pair = channel()
    net = Net(disks, pair, {number: Fault.LOSE})
    for party in pair.parties[: int(acknowledged >= 0) * 2]:
        acknowledge(party, pair.channel_id, acknowledged)

    play(net, "out of turn")

    for party in net.parties:
        own = party.channel(pair.channel_id)
        assert own.final_sequence == min(own.sequence, own.peer_revoked + 1, acknowledged)


# ── opening and close ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("fault", "number"), list(product(Fault, range(8))))
def test_every_fault_at_every_message_of_an_opening(fault: Fault, number: int) -> None:
    """Once the outpoint is fixed, state 0 is completed with the same bytes; the funding is signed only after it."""
    disks = Disks(never_lose)
    a, b = disks.start(Side.A), disks.start(Side.B)
    exchange.run(a, b, [a.open(Terms(balances=(500_000, 500_000)))])
    proposal = a.channels()[0].channel_id
    pair = Pair((a, b), ("alice", "bob"), proposal, made_up_funding(a.funding_spk(proposal), 1_000_000))
    net = Net(disks, pair, {number: fault})

    net.act(Side.A, lambda party: party.fix_funding(proposal, b"\x11" * 32, 1))
    net.talk()
    net.faults.clear()
    net.act(Side.A, lambda party: party.fix_funding(proposal, b"\x11" * 32, 1))
    net.talk()
    net.hello()

    states = [party.channel(proposal).state for party in net.parties]
    assert states[0] is not None
    assert states[0] == states[1]


@pytest.mark.parametrize("musig", [False, True])
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("step", range(7))
def test_death_at_every_step_of_a_close(step: int, side: Side, musig: bool) -> None:
    """Whoever dies: from the first stored signature no update is possible, and the same close can be completed."""
    disks, pair = channel()
    disks.points[side].left = step
    with suppress(Crashed):
        pair.close(Side.A, musig=musig)

    after = disks.restart(pair)
    signed = [bool(party.channel(pair.channel_id).closes) for party in after.parties]
    for party in [party for party, is_signed in zip(after.parties, signed, strict=True) if is_signed]:
        with pytest.raises(ChannelClosed, match="U6"):
            party.offer(pair.channel_id, pair.balances)
    raw = after.close(Side.A, fee=2_000)

    assert Transaction.parse(raw).outputs[0].value == pair.balances[0] - 2_000
    assert after.a.close_transaction(pair.channel_id) == after.b.close_transaction(pair.channel_id) == raw


@pytest.mark.parametrize(("fault", "number"), list(product(Fault, range(2))))
def test_every_fault_at_every_message_of_a_close(fault: Fault, number: int) -> None:
    """A lost or doubled close message leaves a close that can be repeated with identical bytes."""
    disks, pair = channel()
    net = Net(disks, pair, {number: fault})

    net.act(Side.A, lambda party: party.propose_close(pair.channel_id, pair.balances, 1_000))
    net.talk()
    net.faults.clear()
    net.act(Side.A, lambda party: party.propose_close(pair.channel_id, pair.balances, 1_000))
    net.talk()

    closes = {party.close_transaction(pair.channel_id) for party in net.parties}
    assert len(closes) == 1
    assert None not in closes
