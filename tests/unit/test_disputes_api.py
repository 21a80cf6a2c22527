"""States, disputes, closes and checked transactions through the client and the API, without a node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from domain.chain import display
from domain.channel import Channel
from domain.errors import InvalidSignature, InvalidState, MalformedInput, SelfBreach, UnknownTransaction
from domain.events import AlertKind, BroadcastOutcome, CommitmentPublished, encode_payload
from domain.evidence import inconsistent_secret
from domain.joint import funding_signatures
from domain.transaction import Transaction
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair
from tests.support.proofs import ladder_proof, rungs, secret_proof
from tests.support.scenes import NOW, Scene
from tests.support.towers import TOKEN, Bench
from watchtower.client import InProcessPeer, StateChannelClient, StateChannelConfig
from watchtower.client.errors import (
    ChallengeRejected,
    ChannelIsClosed,
    ChannelNotFound,
    MalformedRequest,
    NotConnected,
    SelfBreachRefused,
    SequenceConflict,
    SignatureRefused,
    StateRefused,
    TowerUnavailable,
    TransactionNotKnown,
)
from watchtower.client.party.proofs import counter_proof, newer_state_proof, revocation_proof
from watchtower.ports import Answer
from watchtower.wire.disputes import ValidateRequest, VerifyRequest
from watchtower.wire.hexes import Hex64, ParamsHex, TxidHex


@pytest.fixture
def pair() -> Pair:
    """A channel with three states, of which the tower will know all but the last."""
    return open_pair()


@pytest.fixture
def tower(tmp_path: Path, pair: Pair) -> Bench:
    """B's tower, which knows states 0 and 1 of three."""
    bench = Bench(tmp_path)
    name = bench.registered(pair)
    pair.updates(3)
    bench.services.accept_state(name, pair.update_request(Side.B, 1))
    return bench


@pytest_asyncio.fixture
async def client(tower: Bench, pair: Pair) -> AsyncIterator[StateChannelClient]:
    """B's client with its party and the peer within reach."""
    made = StateChannelClient(
        StateChannelConfig(network="regtest"),
        url="http://tower",
        token=TOKEN,
        party=pair.b,
        closer=InProcessPeer(pair.b, pair.a),
        transport=tower.transport(),
    )
    async with made as connected:
        yield connected


def channel_of(tower: Bench, pair: Pair) -> Channel:
    """The tower's fold."""
    return tower.context.channels.load(tower.context.channels.stream_of(pair.params.proposal_id))


def publish(tower: Bench, pair: Pair, sequence: int) -> bytes:
    """A's commitment stands in the node's mempool; the tower has not looked yet. Returns its txid."""
    raw = pair.commitment(Side.A, sequence)
    tower.node.add_spend(pair.params.funding_outpoint, raw)
    return Transaction.parse(raw).txid


# ── the newest state ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_newest_state(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Header, signatures and application bytes of the tower's newest state, by any name; a stranger is unknown."""
    name = pair.channel_id.hex()
    state = await client.get_channel_state(name[:8])
    content, other = pair.state(1).content, await client.get_channel_state(name)

    assert (1, content.header.hex(), content.state_hash.hex()) == (state.sequence, state.header, state.state_hash)
    assert display(content.read_header().commit_txid(Side.A)) == state.commit_txid_a
    assert (b"payment_1".hex(), content.read_header().balances) == (state.state_data, state.balances)
    assert pair.state(1).sigs_b.commit_peer.hex() == state.signatures.b.commit_peer
    assert state == other
    with pytest.raises(ChannelNotFound):
        await client.get_channel_state("00" * 32)


@pytest.mark.asyncio
async def test_a_signature_that_was_never_given_is_none(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """The peer published the state instead of completing it: null for its last signature, the others as they are."""
    name = pair.channel_id.hex()
    pair.update()
    tower.publish(pair, Transaction.parse(pair.commitment(Side.A, 2)))
    upload = replace(pair.update_request(Side.B, 2), revoked_secret=None, next_point=None)
    signed = upload.state.signatures
    cut_short = replace(signed, a=replace(signed.a, commit_peer=Hex64(bytes(64))))
    tower.services.accept_state(name, replace(upload, state=replace(upload.state, signatures=cut_short)))
    state = await client.get_channel_state(name)
    async with tower.http() as http:
        shown = (await http.get(f"/v1/channels/{name}/state")).json()["signatures"]

    assert 2 == state.sequence
    assert state.signatures.a.commit_peer is None
    assert (None, signed.b.commit_peer.hex()) == (shown["A"]["commit_peer"], shown["B"]["commit_peer"])
    assert signed.a.settle_b.hex() == state.signatures.a.settle_b


@pytest.mark.asyncio
async def test_conditions_and_the_pending_state(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Conditions are told; what the own party has begun is pending until it is complete."""
    name = pair.channel_id.hex()
    pair.with_htlcs(htlc(Side.B, 7, 20_000, 5_000))
    for sequence in (2, 3, 4):
        tower.services.accept_state(name, pair.update_request(Side.B, sequence))
    balances = (pair.balances[0] + 10_000, pair.balances[1] + 10_000)
    pair.b.offer(pair.channel_id, balances)
    state = await client.get_channel_state(name)

    assert [(1, 7, 20_000)] == [(each.type, each.id, each.amount) for each in state.conditions]
    assert state.pending is not None
    assert (5, "B", balances) == (state.pending.sequence, state.pending.by, state.pending.balances)


# ── challenges ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_challenge_is_stored_once(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """The node knows the transaction, the log does not yet: accepted, announced, and repeated without an event."""
    txid = publish(tower, pair, 2)
    proof = revocation_proof(pair.b, pair.channel_id, 2, txid)
    tower.announced.clear()

    first = await client.challenge_state(pair.channel_id.hex(), 2, proof)
    stored = tower.store.last_id()
    second = await client.challenge_state(pair.channel_id.hex(), 2, proof)

    assert ("VALID_ENFORCEABLE", "A", display(txid), False) == (
        first.verdict,
        first.party,
        first.published_txid,
        first.duplicate,
    )
    assert msgspec.structs.replace(first, duplicate=True) == second
    assert (1, stored) == (len(tower.announced), tower.store.last_id())
    assert channel_of(tower, pair).challenge_of(txid) is not None


@pytest.mark.asyncio
async def test_challenges_that_are_refused(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Bytes, bindings, verdicts; a node that cannot be asked; nothing is stored."""
    name, stored = pair.channel_id.hex(), tower.store.last_id()
    proof = secret_proof(pair, 2).hex()
    with pytest.raises(MalformedInput, match="hexadecimal"):
        await client.challenge_state(name, 2, "no hex")
    with pytest.raises(MalformedRequest, match="at least 78 bytes"):
        await client.challenge_state(name, 2, "00")
    with pytest.raises(ChallengeRejected, match="neither in the mempool nor in a block"):
        await client.challenge_state(name, 2, proof)
    publish(tower, pair, 2)
    with pytest.raises(ChallengeRejected, match="TXID_MISMATCH"):
        await client.challenge_state(name, 2, secret_proof(pair, 2, shown=1).hex())
    with pytest.raises(ChallengeRejected, match="the challenge names 1"):
        await client.challenge_state(name, 1, proof)
    wrong = rungs(pair, 2, pair.params.keys_a.payout)
    with pytest.raises(ChallengeRejected, match=r"BAD_SIG.*registered sweep script"):
        await client.challenge_state(name, 2, ladder_proof(pair, 2, wrong).hex())
    tower.node.is_down = True
    with pytest.raises(TowerUnavailable):
        await client.challenge_state(name, 2, proof)

    assert stored == tower.store.last_id()


@pytest.mark.asyncio
async def test_counter_proofs(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Nothing to answer; then evidence is refuted, and the repetition is known."""
    name, txid = pair.channel_id.hex(), publish(tower, pair, 2)
    counter = counter_proof(pair.a, pair.channel_id, 2, txid)
    with pytest.raises(ChallengeRejected, match="no challenge to answer"):
        await client.respond_to_challenge(name, counter)
    await client.challenge_state(name, 2, newer_state_proof(pair.b, pair.channel_id, 2, txid))

    first = await client.respond_to_challenge(name, counter)
    second = await client.respond_to_challenge(name, counter)

    assert ("REFUTED", 2, False, True) == (first.outcome, first.sequence, first.duplicate, second.duplicate)
    with pytest.raises(MalformedRequest):
        await client.respond_to_challenge(name, counter[:-2])


# ── proofs ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_verdicts_at_the_tower_and_offline(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Both say the same of good and bad proofs; the tower stores nothing."""
    txid, stored = pair.commitment_txid(Side.A, 2), tower.store.last_id()
    good = revocation_proof(pair.b, pair.channel_id, 2, txid)
    shown = newer_state_proof(pair.b, pair.channel_id, 2, txid)
    proofs = [good, shown, good[:-2], "00", secret_proof(pair, 2, shown=0).hex()]

    online = [await client.verify_proof(proof) for proof in proofs]
    offline = [await client.verify_proof(proof, params=pair.params.encode()) for proof in proofs]

    expected = [
        ("VALID_ENFORCEABLE", None, None),
        ("VALID_EVIDENCE_ONLY", None, 3),
        ("INVALID", "BAD_LENGTH", None),
        ("INVALID", "BAD_LENGTH", None),
        ("INVALID", "TXID_MISMATCH", None),
    ]
    assert expected == [(each.verdict, each.reason, each.evidence_sequence) for each in online]
    assert expected == [(each.verdict, each.reason, each.evidence_sequence) for each in offline]
    assert ([True, True, False, False, False], stored) == (
        [each.is_valid for each in online],
        tower.store.last_id(),
    )


@pytest.mark.asyncio
async def test_a_ladder_is_judged_with_its_context(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Offline it needs the published transaction and the sweep script; with them every rung is checked."""
    sweep = bytes(pair.registration(Side.B).sweep_spk)
    proof = ladder_proof(pair, 2, rungs(pair, 2, sweep)).hex()
    published = pair.commitment(Side.A, 2)

    right = await client.verify_proof(proof, params=pair.params.encode(), published=published, sweep_spk=sweep)
    alone = await client.verify_proof(proof, params=pair.params.encode())

    assert ("VALID_ENFORCEABLE", "TXID_MISMATCH") == (right.verdict, alone.reason)


@pytest.mark.asyncio
async def test_a_proof_of_a_stranger(client: StateChannelClient, tower: Bench) -> None:
    """An unknown channel is 404, unless its constants come along; a party sees its own channels only."""
    other = open_pair(names=("carol", "dave"))
    other.updates(2)
    proof = revocation_proof(other.b, other.channel_id, 1, other.commitment_txid(Side.A, 1))
    with pytest.raises(ChannelNotFound, match="give params"):
        await client.verify_proof(proof)
    request = VerifyRequest(proof=bytes.fromhex(proof), params=ParamsHex(other.params.encode()))  # type: ignore[arg-type]

    assert "VALID_ENFORCEABLE" == tower.services.disputes.verify(request, None).verdict


# ── closes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (BroadcastOutcome.ACCEPTED, "IN_MEMPOOL"),
        (BroadcastOutcome.ALREADY_KNOWN, "IN_MEMPOOL"),
        (BroadcastOutcome.BELOW_MINIMUM, "FEE_CHILD_NEEDED"),
        (BroadcastOutcome.INSUFFICIENT_FEE, "FEE_CHILD_NEEDED"),
        (BroadcastOutcome.MISSING_INPUTS, "CONFLICT"),
        (BroadcastOutcome.REJECTED, "NOT_ACCEPTED"),
    ],
)
async def test_answers_of_the_node_to_an_own_commitment(
    client: StateChannelClient, tower: Bench, pair: Pair, answer: BroadcastOutcome, expected: str
) -> None:
    """Whatever the node says, the intent is stored, the witness is not, and the pass thread has the bytes."""
    tower.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, 2))
    tower.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, 3))
    tower.node.answer = Answer(answer)

    result = await client.close_channel_unilateral(pair.channel_id.hex(), 3)

    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    (event,) = [e.payload for e in tower.store.read_stream(stream) if isinstance(e.payload, CommitmentPublished)]
    raw = bytes.fromhex(result.transaction)
    assert (expected, 3, [raw]) == (result.outcome, result.sequence, tower.node.sent)
    assert display(pair.commitment_txid(Side.B, 3)) == result.txid
    assert raw == tower.context.outbox.get(stream)
    assert Transaction.parse(raw).inputs[0].witness[0] not in encode_payload(event)


@pytest.mark.asyncio
async def test_a_close_while_the_node_is_away(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Stored and pending; asked again it is the same close."""
    tower.node.is_down = True
    for sequence in (2, 3):
        tower.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, sequence))
    pending = await client.close_channel_unilateral(pair.channel_id.hex(), 3)
    tower.node.is_down = False
    again = await client.close_channel_unilateral(pair.channel_id.hex(), 3)

    assert ("PENDING", False) == (pending.outcome, pending.duplicate)
    assert ("IN_MEMPOOL", True, pending.txid) == (again.outcome, again.duplicate, again.txid)
    with pytest.raises(ChannelIsClosed, match="signed or published"):
        await client.upload_state(pair.channel_id.hex(), pair.forged_update(Side.B, pair.balances))


@pytest.mark.asyncio
async def test_unilateral_closes_that_are_refused(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """The guard of the party, the guard of the tower, unknown states, bad signatures, too few of them."""
    name, stored = pair.channel_id.hex(), tower.store.last_id()
    stranger = StateChannelClient(client.config, url="http://tower", token=TOKEN, transport=tower.transport())
    stale = funding_signatures(pair.params, Transaction.parse(pair.commitment(Side.B, 0)))
    assert stale is not None
    hexes = [each.hex() for each in stale]
    with pytest.raises(SelfBreach):
        await client.close_channel_unilateral(name, 1)
    with pytest.raises(InvalidSignature, match="signature of A"):
        await client.close_channel_unilateral(name, 3, hexes)
    with pytest.raises(MalformedInput, match="of A and of B"):
        await client.close_channel_unilateral(name, 3, hexes[:1])
    async with stranger:
        with pytest.raises(MalformedInput, match="only a client with a party"):
            await stranger.close_channel_unilateral(name, 3)
        with pytest.raises(SelfBreachRefused, match="own state 0 was revoked"):
            await stranger.close_channel_unilateral(name, 0, hexes)
        with pytest.raises(SignatureRefused, match="signature of A"):
            await stranger.close_channel_unilateral(name, 1, hexes)
        with pytest.raises(SequenceConflict, match="no complete state 9"):
            await stranger.close_channel_unilateral(name, 9, hexes)

    assert (stored, []) == (tower.store.last_id(), tower.node.sent)


@pytest.mark.asyncio
async def test_a_cooperative_close_through_the_peer(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Both parties sign, the tower stores and sends; asked again with the bytes it is the same close."""
    for sequence in (2, 3):
        tower.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, sequence))
    name, balances = pair.channel_id.hex(), pair.balances

    first = await client.close_channel_cooperative(name, balances, fee=600)
    second = await client.close_channel_cooperative(name, balances, transaction=first.transaction)
    info = await client.get_channel_info(name)

    outputs = Transaction.parse(bytes.fromhex(first.transaction)).outputs
    assert ("COOPERATIVE", "IN_MEMPOOL", False, True) == (first.kind, first.outcome, first.duplicate, second.duplicate)
    assert [balances[0], balances[1] - 600] == [out.value for out in outputs]
    assert "COOP_CLOSING" == info.status


@pytest.mark.asyncio
async def test_a_cooperative_close_that_pays_too_little(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """The node wants more: close again with a higher fee."""
    tower.node.answer = Answer(BroadcastOutcome.BELOW_MINIMUM)

    result = await client.close_channel_cooperative(pair.channel_id.hex(), pair.balances)

    assert ("FEE_TOO_LOW", None) == (result.outcome, result.fee_output)


@pytest.mark.asyncio
async def test_cooperative_closes_that_are_refused(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """Before anything is signed: sums, conditions, no peer. At the tower: a foreign transaction."""
    name, stored = pair.channel_id.hex(), tower.store.last_id()
    with pytest.raises(InvalidState, match="do not add up"):
        await client.close_channel_cooperative(name, (1, 2))
    with pytest.raises(InvalidState, match="two balances"):
        await client.close_channel_cooperative(name, (1, 2, 3))
    with pytest.raises(StateRefused, match="not the cooperative close"):
        await client.close_channel_cooperative(name, pair.balances, transaction=pair.commitment(Side.B, 3).hex())
    client.closer = None
    with pytest.raises(NotConnected, match="needs the peer"):
        await client.close_channel_cooperative(name, pair.balances)
    client.closer = InProcessPeer(pair.b, pair.a)
    pair.with_htlcs(htlc(Side.B, 7, 20_000, 5_000))
    with pytest.raises(InvalidState, match="conditions are pending"):
        await client.close_channel_cooperative(name, (pair.balances[0] + 20_000, pair.balances[1]))

    assert (stored, []) == (tower.store.last_id(), tower.node.sent)


# ── transactions ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_checked_transactions(client: StateChannelClient, tower: Bench, pair: Pair) -> None:
    """By bytes, by a txid that the node has, by one of the log; with and without the node's opinion."""
    txid = publish(tower, pair, 0)
    by_txid = await client.validate_transaction(display(txid))
    funding = await client.validate_transaction(display(pair.funding.txid), channel_id=pair.channel_id.hex())
    unnamed = await client.validate_transaction(display(pair.funding.txid))
    tower.node.answer = Answer(BroadcastOutcome.REJECTED, -26, "no such thing")
    asked = await client.validate_transaction(pair.commitment(Side.A, 1).hex(), ask_node=True)
    tower.node.is_down = True
    silent = await client.validate_transaction(pair.commitment(Side.A, 1).hex(), ask_node=True)

    assert ("commitment", True, "A", 0, True) == (
        by_txid.kind,
        by_txid.valid,
        by_txid.party,
        by_txid.sequence,
        by_txid.revoked,
    )
    assert ("funding", pair.channel_id.hex()) == (funding.kind, funding.channel_id)
    assert funding == unnamed
    assert ["no such thing"] == [each.detail for each in asked.findings if not each.ok]
    assert ["the node could not be asked"] == [each.detail for each in silent.findings if not each.ok]


@pytest.mark.asyncio
async def test_transactions_that_cannot_be_checked(client: StateChannelClient, tower: Bench) -> None:
    """Unknown txids, bytes that are none, and one that has nothing to do with any channel."""
    with pytest.raises(TransactionNotKnown):
        await client.validate_transaction("11" * 32)
    with pytest.raises(MalformedRequest):
        await client.validate_transaction("00")
    with pytest.raises(MalformedInput, match="either txid or raw"):
        tower.services.disputes.validate(ValidateRequest(), None)
    other = open_pair(names=("carol", "dave"))
    found = await client.validate_transaction(other.funding.raw.hex())

    assert ("unknown", False, None) == (found.kind, found.valid, found.channel_id)


def test_a_party_sees_its_own_channels_only(tower: Bench, pair: Pair) -> None:
    """With another key the same transaction belongs to nobody, and the same proof to an unknown channel."""
    request = msgspec.json.decode(
        msgspec.json.encode({"raw": pair.commitment(Side.A, 1).hex()}),
        type=ValidateRequest,
        dec_hook=lambda form, text: form.from_text(text),
    )
    own = tower.services.disputes.validate(request, pair.params.keys_b.auth)
    strange = tower.services.disputes.validate(request, bytes(32))

    assert ("commitment", "unknown") == (own.kind, strange.kind)
    by_id = ValidateRequest(txid=TxidHex(pair.funding.txid))
    assert "funding" == tower.services.disputes.validate(by_id, pair.params.keys_b.auth).kind
    with pytest.raises(UnknownTransaction, match="give its bytes, or the channel"):
        tower.services.disputes.validate(by_id, bytes(32))


@pytest.mark.asyncio
async def test_bodies_are_checked(tower: Bench, pair: Pair) -> None:
    """Unknown fields, missing fields and wrong lengths are 400 at every address."""
    name = pair.channel_id.hex()
    paths = [f"/v1/channels/{name}/{what}" for what in ("challenges", "challenge-responses")]
    paths += [f"/v1/channels/{name}/{kind}-close" for kind in ("cooperative", "unilateral")]
    paths += ["/v1/proofs/verify", "/v1/transactions/validate"]
    async with tower.http() as http:
        answers: list[httpx.Response] = [
            await http.post(path, json=body) for path in paths for body in ({"x": 1}, [], {"proof": "zz"})
        ]

    assert {400} == {answer.status_code for answer in answers}


# ── secrets that do not fit ──────────────────────────────────────────────────────────────────────────────────────


def test_an_inconsistent_secret_alerts_once_and_a_forged_one_never() -> None:
    """The secret of the announced point that contradicts the earlier ones: an alert. Any other: nothing."""
    stray = b"\x42" * 32
    scene = Scene(secrets={(Side.B, 3): stray}).opened(updates=3)
    decide = [inconsistent_secret(scene.channel, Side.B, 3, secret, 200, NOW) for secret in (stray, b"\x43" * 32)]
    (alert,) = scene.then(decide[0])

    assert (AlertKind.SECRET_INCONSISTENT, 3) == (alert.kind, alert.sequence)
    assert [] == decide[1]
    assert [] == inconsistent_secret(scene.channel, Side.B, 3, stray, 200, NOW)
