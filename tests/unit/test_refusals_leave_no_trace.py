"""What is refused is refused with a type: nobody signs, no log grows by a byte, the node hears nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from domain.contract import keys
from domain.contract.proofs import encode_counter_proof, encode_evidence
from domain.errors import DomainError, InvalidSignature, InvalidState, SelfBreach, SequenceGap
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair
from tests.support.proofs import secret_proof
from tests.support.towers import TOKEN, Bench
from watchtower.client import InProcessPeer, StateChannelClient, StateChannelConfig
from watchtower.client.errors import (
    ChallengeRejected,
    ChannelNotFound,
    MalformedRequest,
)
from watchtower.client.party.proofs import revocation_proof
from watchtower.client.protocol.messages import AnyMessage, ClosePropose, CloseProposeMusig
from watchtower.ports import EventStore
from watchtower.wire.hexes import Hex32, Hex64, NonceHex

SIGNERS = ("sign_schnorr", "sign_ecdsa")


@pytest.fixture(params=[0, 1], ids=["taproot", "segwit"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A channel whose newest state is 3; state 4 would add an HTLC."""
    made = open_pair(profile=request.param)
    made.updates(3)
    return made


@pytest.fixture
def tower(tmp_path: Path, pair: Pair) -> Bench:
    """B's tower with all three states."""
    bench = Bench(tmp_path)
    name = bench.registered(pair)
    for sequence in (1, 2, 3):
        bench.services.accept_state(name, pair.update_request(Side.B, sequence))
    return bench


@pytest_asyncio.fixture
async def client(tower: Bench, pair: Pair) -> AsyncIterator[StateChannelClient]:
    """B's client with its party and the peer within reach."""
    made = StateChannelClient(
        StateChannelConfig(network="regtest", taproot_enabled=pair.params.profile == 0),
        url="http://tower",
        token=TOKEN,
        party=pair.b,
        closer=InProcessPeer(pair.b, pair.a),
        transport=tower.transport(),
    )
    async with made as connected:
        yield connected


@pytest_asyncio.fixture
async def breached(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """A's revoked state 2 is in the mempool of B's node, and B's party has heard of it."""
    tower.node.add_spend(pair.params.funding_outpoint, pair.commitment(Side.A, 2))
    await client.get_funding_status(pair.channel_id.hex())


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch, client: StateChannelClient) -> list[str]:
    """Every signature of anybody from now on."""
    made: list[str] = []

    def counting(name: str) -> Callable[..., bytes]:
        original = getattr(keys, name)

        def sign(*arguments: object) -> bytes:
            made.append(name)
            return bytes(original(*arguments))

        return sign

    for name in SIGNERS:
        monkeypatch.setattr(keys, name, counting(name))
    return made


def log_of(store: EventStore) -> list[bytes]:
    """Every byte that a store would read back."""
    return [msgspec.msgpack.encode(recorded) for recorded in store.read_log(0, 10_000)]


def traces(tower: Bench, pair: Pair) -> tuple[list[bytes], ...]:
    """The logs of the tower and of both parties, and what the node was sent."""
    return (log_of(tower.store), *(log_of(party._store) for party in pair.parties), list(tower.node.sent))


Act = Callable[[StateChannelClient, Pair], Awaitable[object]]


async def close(client: StateChannelClient, pair: Pair, *balances: int, fee: int = 500) -> object:
    """A cooperative close."""
    return await client.close_channel_cooperative(pair.channel_id.hex(), balances, fee=fee)


async def challenge(client: StateChannelClient, pair: Pair, sequence: int, proof: str) -> object:
    """A challenge."""
    return await client.challenge_state(pair.channel_id.hex(), sequence, proof)


async def unilateral(client: StateChannelClient, pair: Pair, sequence: int, *signatures: bytes) -> object:
    """A close with a state."""
    return await client.close_channel_unilateral(
        pair.channel_id.hex(), sequence, [signature.hex() for signature in signatures]
    )


def funding_proof(pair: Pair) -> str:
    """A's revoked secret as if it accused the funding transaction."""
    return revocation_proof(pair.b, pair.channel_id, 2, pair.funding.txid)


def counter(pair: Pair) -> str:
    """State 3 against an accusation of state 2 that nobody made."""
    state = pair.state(3)
    shown = encode_evidence(state.content.read_header(), state.sigs_a.state, state.sigs_b.state)
    return encode_counter_proof(pair.channel_id, pair.commitment_txid(Side.A, 2), 2, shown).hex()


def flipped(raw: str, place: int) -> str:
    """Hexadecimal text with one digit changed."""
    return raw[:place] + ("0" if raw[place] != "0" else "1") + raw[place + 1 :]


REFUSED_CLOSES: dict[str, tuple[Act, type[Exception], str]] = {
    "balances above the capacity": (
        lambda client, pair: close(client, pair, pair.balances[0] + 1, pair.balances[1]),
        InvalidState,
        "do not add up",
    ),
    "balances below the capacity": (
        lambda client, pair: close(client, pair, pair.balances[0], pair.balances[1] - 1),
        InvalidState,
        "do not add up",
    ),
    "a negative balance": (
        lambda client, pair: close(client, pair, -1, sum(pair.balances) + 1),
        InvalidState,
        "do not add up",
    ),
    "one balance": (lambda client, pair: close(client, pair, sum(pair.balances)), InvalidState, "two balances"),
    "a fee above the balance": (
        lambda client, pair: close(client, pair, *pair.balances, fee=sum(pair.balances)),
        DomainError,
        "fee",
    ),
}
"""Call, type of the refusal, words in it."""

REFUSED: dict[str, tuple[Act, type[Exception], str]] = {
    "a proof of another state": (
        lambda client, pair: challenge(client, pair, 1, secret_proof(pair, 2).hex()),
        ChallengeRejected,
        "the challenge names 1",
    ),
    "a proof about another transaction": (
        lambda client, pair: challenge(client, pair, 2, secret_proof(pair, 2, shown=1).hex()),
        ChallengeRejected,
        "TXID_MISMATCH",
    ),
    "a proof about a transaction that nobody published": (
        lambda client, pair: challenge(client, pair, 1, secret_proof(pair, 1).hex()),
        ChallengeRejected,
        "neither in the mempool nor in a block",
    ),
    "a proof about the funding transaction": (
        lambda client, pair: challenge(
            client, pair, 2, revocation_proof(pair.b, pair.channel_id, 2, pair.funding.txid)
        ),
        ChallengeRejected,
        "the funding output is not spent by",
    ),
    "a proof with another secret": (
        lambda client, pair: challenge(client, pair, 2, flipped(secret_proof(pair, 2).hex(), 160)),
        ChallengeRejected,
        "TXID_MISMATCH",
    ),
    "a proof for another channel": (
        lambda client, pair: challenge(client, pair, 2, flipped(secret_proof(pair, 2).hex(), 12)),
        ChallengeRejected,
        "WRONG_CHANNEL",
    ),
    "half a proof": (
        lambda client, pair: challenge(client, pair, 2, secret_proof(pair, 2).hex()[:100]),
        MalformedRequest,
        "at least 78 bytes",
    ),
    "an answer to no challenge": (
        lambda client, pair: client.respond_to_challenge(pair.channel_id.hex(), counter(pair)),
        ChallengeRejected,
        "no challenge to answer",
    ),
    "a close with a revoked state": (
        lambda client, pair: unilateral(client, pair, 1),
        SelfBreach,
        "own state 1 was revoked",
    ),
    "a close with foreign signatures": (
        lambda client, pair: unilateral(client, pair, 3, bytes(64), b"\x01" * 64),
        InvalidSignature,
        "signature of A",
    ),
    "a close with a state that nobody signed": (
        lambda client, pair: unilateral(client, pair, 9),
        SequenceGap,
        "no complete state 9",
    ),
    "a channel of a stranger": (
        lambda client, pair: client.challenge_state("ee" * 32, 2, secret_proof(pair, 2).hex()),
        ChannelNotFound,
        "no channel",
    ),
}
"""The same while the channel is being closed with a revoked state."""


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", REFUSED_CLOSES)
async def test_a_refused_close_leaves_no_trace(
    client: StateChannelClient, tower: Bench, pair: Pair, signed: list[str], fault: str
) -> None:
    """A typed error that says why, and everything is as before."""
    call, kind, words = REFUSED_CLOSES[fault]
    before = traces(tower, pair)

    with pytest.raises(kind, match=words):
        await call(client, pair)

    assert ([], before) == (signed, traces(tower, pair))


@pytest.mark.asyncio
@pytest.mark.usefixtures("breached")
@pytest.mark.parametrize("fault", REFUSED)
async def test_a_refused_call_leaves_no_trace(
    client: StateChannelClient, tower: Bench, pair: Pair, signed: list[str], fault: str
) -> None:
    """The client's calls: a typed error that says why, and everything is as before."""
    call, kind, words = REFUSED[fault]
    before = traces(tower, pair)

    with pytest.raises(kind, match=words) as refusal:
        await call(client, pair)

    assert str(refusal.value)
    assert ([], before) == (signed, traces(tower, pair))


@pytest.mark.asyncio
async def test_a_close_with_pending_conditionals_leaves_no_trace(
    client: StateChannelClient, tower: Bench, pair: Pair, signed: list[str]
) -> None:
    """However the HTLC is counted in the final balances."""
    pair.with_htlcs(htlc(Side.B, 7, 20_000, 5_000))
    before, capacity = traces(tower, pair), pair.params.capacity
    assert signed
    signed.clear()

    for first in (pair.balances[0], pair.balances[0] + 20_000):
        with pytest.raises(InvalidState, match="conditions are pending"):
            await close(client, pair, first, capacity - first)

    assert ([], before) == (signed, traces(tower, pair))


def by_leaf(pair: Pair, balances: tuple[int, int], fee: int = 500) -> AnyMessage:
    """A proposal of the peer with a signature of nothing."""
    return ClosePropose(
        channel_id=Hex32(pair.channel_id), final_balances=balances, fee=fee, lock_time=0, signature=Hex64(b"\x01" * 64)
    )


def by_key_path(pair: Pair, balances: tuple[int, int], fee: int = 500) -> AnyMessage:
    """The same with a nonce."""
    nonce = NonceHex(pair.params.keys_a.fund * 2)
    return CloseProposeMusig(
        channel_id=Hex32(pair.channel_id), final_balances=balances, fee=fee, lock_time=0, nonce=nonce
    )


@pytest.mark.parametrize("profile", [0, 1])
@pytest.mark.parametrize("propose", [by_leaf, by_key_path])
@pytest.mark.parametrize("more", [(1, 0), (0, -1), (-(10**9), 10**9), (2**63, 0)])
def test_a_close_of_the_peer_that_does_not_add_up(
    monkeypatch: pytest.MonkeyPatch,
    profile: int,
    propose: Callable[[Pair, tuple[int, int]], AnyMessage],
    more: tuple[int, int],
) -> None:
    """The party's log stays as it is, and its key is not asked."""
    pair = open_pair(profile=profile, parties=None)
    pair.updates(2)
    message = propose(pair, (pair.balances[0] + more[0], pair.balances[1] + more[1]))
    before = [log_of(party._store) for party in pair.parties]
    for name in SIGNERS:
        monkeypatch.delattr(keys, name)

    with pytest.raises(DomainError):
        pair.b.receive(message)

    assert before == [log_of(party._store) for party in pair.parties]


def test_a_close_of_the_peer_with_another_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right balances, wrong signature: not answered by an own one."""
    pair = open_pair()
    pair.updates(2)
    before = log_of(pair.b._store)
    for name in SIGNERS:
        monkeypatch.delattr(keys, name)

    with pytest.raises(InvalidSignature, match="nothing was signed"):
        pair.b.receive(by_leaf(pair, pair.balances))

    assert before == log_of(pair.b._store)
