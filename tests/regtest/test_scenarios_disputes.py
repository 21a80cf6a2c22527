"""Proofs, challenges and closes on a real node, through the client: catalogue B13, B15, D07-D12, D14, D15."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from domain.chain import display
from domain.contract.params import SEGWIT
from domain.events import (
    AlertCleared,
    AlertKind,
    AlertRaised,
    BidMethod,
    BreachDetected,
    ChallengeAnswered,
    ChallengeReceived,
    CloseSigned,
    CommitmentPublished,
    PenaltyBroadcast,
    PenaltyPrepared,
    SpendSeen,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.world import World
from tests.support.parties import Pair
from tests.support.proofs import FEES, evidence, ladder_proof, rungs, secret_proof
from tests.support.towers import TOKEN, TOWER_ID
from watchtower.channels.register import register
from watchtower.client import InProcessPeer, StateChannelClient, StateChannelConfig
from watchtower.client.errors import (
    ChallengeRejected,
    ChannelIsClosed,
    MalformedRequest,
    SelfBreachRefused,
    StateRefused,
)
from watchtower.client.proofs import counter_proof, newer_state_proof, revocation_proof
from watchtower.devnode.regtest import RegtestNode
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.services import Standing, bind

T = TypeVar("T")
Work = Callable[[StateChannelClient], Awaitable[T]]


def client_of(world: World, pair: Pair, with_party: bool = True) -> StateChannelClient:
    """B's client of the world's tower, over the real HTTP application."""
    standing = Standing(operational=True, watching=True, phase="watching", height=world.node.height())
    services = bind(world.context, lambda: standing, version="1.2.3", network="regtest", tower_id=TOWER_ID)
    transport = httpx.ASGITransport(create_app(services, gate=Gate(sha256(TOKEN.encode()).digest())))
    return StateChannelClient(
        StateChannelConfig(network="regtest"),
        url="http://tower",
        token=TOKEN,
        party=pair.b if with_party else None,
        closer=InProcessPeer(pair.b, pair.a),
        transport=transport,
    )


def ask(world: World, pair: Pair, work: Work[T], with_party: bool = True) -> T:
    """Run one piece of work of a connected client."""

    async def connected() -> T:
        async with client_of(world, pair, with_party) as client:
            return await work(client)

    return asyncio.run(connected())


def challenge(world: World, pair: Pair, sequence: int, proof: bytes) -> Any:
    """`challenge_state` of B's client."""
    return ask(world, pair, lambda client: client.challenge_state(pair.channel_id.hex(), sequence, proof.hex()))


def stopped_short(world: World, newest: int = 4, uploaded: int = 1, **options: Any) -> Pair:
    """A channel whose last states never reached the tower: its keys are here, the peer's secrets are not."""
    pair = world.open(updates=uploaded, **options)
    pair.updates(newest - uploaded)
    return pair


def sweep_of(pair: Pair) -> bytes:
    """B's registered sweep script."""
    return bytes(pair.registration(Side.B).sweep_spk)


# ── challenges that can be enforced ──────────────────────────────────────────────────────────────────────────────


def test_scenario_D08_proof_kind0_valid(world: World) -> None:
    """The secret of a state that the tower never heard of: VALID_ENFORCEABLE, and the penalty confirms."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    assert [] == world.events(pair, BreachDetected)
    proof = revocation_proof(pair.b, pair.channel_id, 3, pair.commitment_txid(Side.A, 3))

    verdict = ask(world, pair, lambda client: client.verify_proof(proof))
    first = challenge(world, pair, 3, bytes.fromhex(proof))
    world.look()
    again = challenge(world, pair, 3, bytes.fromhex(proof))
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 3)
    assert penalty is not None
    assert ("VALID_ENFORCEABLE", "VALID_ENFORCEABLE", None) == (verdict.verdict, first.verdict, first.penalty_txid)
    assert (True, display(penalty.txid)) == (again.duplicate, again.penalty_txid)
    assert [None, world.node.height()] == [
        breach.block and breach.block.height for breach in world.events(pair, BreachDetected)
    ]
    assert 1 == len(world.events(pair, ChallengeReceived))
    assert world.node.height() == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"


def test_scenario_D08_the_proof_comes_after_the_block(world: World) -> None:
    """A commitment of the next two numbers passes for an honest close until the secret is shown, also in a block."""
    pair = stopped_short(world, newest=3)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    closed_at = world.node.height()

    result = challenge(world, pair, 2, secret_proof(pair, 2))
    world.look()
    world.node.mine(1)
    world.look()

    assert closed_at + pair.params.challenge_period - 1 == result.deadline
    assert world.status(pair) == "PUNISHED"


def test_scenario_D08_the_log_has_not_seen_the_transaction_yet(world: World) -> None:
    """A proof may be faster than the tower's own look at the mempool: the node is asked."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))

    result = challenge(world, pair, 3, secret_proof(pair, 3))
    world.look()
    world.node.mine(1)
    world.look()

    assert "VALID_ENFORCEABLE" == result.verdict
    assert world.status(pair) == "PUNISHED"


def test_scenario_D08_survives_restart_and_reorg(world: World) -> None:
    """The proof is in the log: after a restart and a reorg the commitment is still a breach."""
    pair = stopped_short(world)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.look()
    challenge(world, pair, 3, secret_proof(pair, 3))
    world.restart()

    world.node.reorg(1, [[], [pair.commitment(Side.A, 3)]])
    world.look()
    world.node.mine(1)
    world.look()

    assert world.status(pair) == "PUNISHED"


def test_scenario_D07_kit_pays_wrong_address(world: World) -> None:
    """A ladder signed for another script fails on the rebuilt penalty: refused, nothing stored, nothing sent."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    stored = world.channel(pair).version
    foreign = rungs(pair, 3, pair.params.keys_a.payout)

    with pytest.raises(ChallengeRejected, match="BAD_SIG"):
        challenge(world, pair, 3, ladder_proof(pair, 3, foreign))

    world.look()
    assert stored == world.channel(pair).version
    assert world.mempool_spender(world.contest(pair, 3)) is None


def test_scenario_D07_a_right_ladder_is_climbed(world: World) -> None:
    """Without the secret the tower sends the cheapest sufficient rung, and a higher one when a rival outbids it."""
    pair = stopped_short(world, challenge_period=24)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.look()

    challenge(world, pair, 3, ladder_proof(pair, 3, rungs(pair, 3, sweep_of(pair), top=0x81)))
    for _ in range(20):
        world.node.generate_block()
        world.look()
    world.node.mine(1)
    world.look()

    prepared = world.events(pair, PenaltyPrepared)
    places = [bid.rung for bid in prepared]
    assert sorted(places) == places
    assert len(places) > 1
    assert {BidMethod.LADDER} == {bid.method for bid in prepared}
    assert [FEES[place] for place in places] == [bid.fee for bid in prepared]
    assert len(prepared) == len(world.events(pair, PenaltyBroadcast))
    assert world.status(pair) == "PUNISHED"


# ── proofs that do not hold ──────────────────────────────────────────────────────────────────────────────────────


def test_scenario_D09_proof_for_other_channel(world: World) -> None:
    """A proof of another channel is INVALID(WRONG_CHANNEL) here and refused."""
    pair, other = stopped_short(world), stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    foreign = secret_proof(other, 3, txid=pair.commitment_txid(Side.A, 3))

    offline = ask(
        world, pair, lambda client: client.verify_proof(foreign.hex(), params=pair.params.encode()), with_party=False
    )
    with pytest.raises(ChallengeRejected, match="WRONG_CHANNEL"):
        challenge(world, pair, 3, foreign)

    assert ("INVALID", "WRONG_CHANNEL") == (offline.verdict, offline.reason)
    assert [] == world.events(pair, ChallengeReceived)


@pytest.mark.parametrize("shown", [2, 4])
def test_scenario_D10_proof_secret_for_neighbour(world: World, shown: int) -> None:
    """The secret of the state before or after gives another transaction: INVALID(TXID_MISMATCH)."""
    pair = stopped_short(world, newest=5)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    wrong = secret_proof(pair, 3, shown=shown)

    verdict = ask(world, pair, lambda client: client.verify_proof(wrong.hex()))
    with pytest.raises(ChallengeRejected, match="TXID_MISMATCH"):
        challenge(world, pair, 3, wrong)

    assert ("INVALID", "TXID_MISMATCH") == (verdict.verdict, verdict.reason)


def test_scenario_D11_header_only_proof(world: World) -> None:
    """A newer state alone is evidence: stored, reported, and nothing is sent."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    proof = newer_state_proof(pair.b, pair.channel_id, 2, pair.commitment_txid(Side.A, 2))

    verdict = ask(world, pair, lambda client: client.verify_proof(proof))
    result = challenge(world, pair, 2, bytes.fromhex(proof))
    world.look()

    assert ("VALID_EVIDENCE_ONLY", 4) == (verdict.verdict, verdict.evidence_sequence)
    assert ("VALID_EVIDENCE_ONLY", None) == (result.verdict, result.penalty_txid)
    assert 1 == len(world.events(pair, ChallengeReceived))
    assert world.mempool_spender(world.contest(pair, 2)) is None


def test_a_challenge_for_what_is_not_there(world: World) -> None:
    """A perfect proof of a transaction that nobody published, or of another state, is refused and stored nowhere."""
    pair = stopped_short(world)
    stored = world.channel(pair).version

    with pytest.raises(ChallengeRejected, match="neither in the mempool nor in a block"):
        challenge(world, pair, 3, secret_proof(pair, 3))
    world.node.send_raw(pair.commitment(Side.A, 2))
    with pytest.raises(ChallengeRejected, match="neither in the mempool nor in a block"):
        challenge(world, pair, 3, secret_proof(pair, 3))
    with pytest.raises(ChallengeRejected, match="accuses state 2, the challenge names 3"):
        challenge(world, pair, 3, secret_proof(pair, 2))

    assert stored == world.channel(pair).version


# ── counter-proofs ───────────────────────────────────────────────────────────────────────────────────────────────


def challenged_with_evidence(world: World) -> Pair:
    """A published state 2 of a channel with five states; the challenger showed state 3."""
    pair = stopped_short(world, newest=5)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    txid = pair.commitment_txid(Side.A, 2)
    proof = bytes.fromhex(newer_state_proof(pair.b, pair.channel_id, 2, txid))[:78] + evidence(pair, 3)
    challenge(world, pair, 2, proof)
    return pair


def respond(world: World, pair: Pair, counter: str) -> Any:
    """`respond_to_challenge` of B's client."""
    return ask(world, pair, lambda client: client.respond_to_challenge(pair.channel_id.hex(), counter))


def test_scenario_D12_counterproof_superseded(world: World) -> None:
    """A newer state than the challenger's supersedes his evidence, without effect on chain."""
    pair = challenged_with_evidence(world)
    counter = counter_proof(pair.a, pair.channel_id, 2, pair.commitment_txid(Side.A, 2), newest=5)

    result = respond(world, pair, counter)
    again = respond(world, pair, counter)

    assert ("SUPERSEDED", False, True) == (result.outcome, result.duplicate, again.duplicate)
    assert "no effect on chain" in result.message
    assert 1 == len(world.events(pair, ChallengeAnswered))


def test_scenario_D12_counterproof_refuted(world: World) -> None:
    """The published state, signed by both, answers evidence without a secret; a wrong one answers nothing."""
    pair = challenged_with_evidence(world)
    txid = pair.commitment_txid(Side.A, 2)

    refuted = respond(world, pair, counter_proof(pair.a, pair.channel_id, 2, txid))
    invalid = respond(world, pair, counter_proof(pair.a, pair.channel_id, 1, txid))

    assert ("REFUTED", "COUNTER_INVALID") == (refuted.outcome, invalid.outcome)
    assert "settled after the challenge period" in refuted.message


def test_scenario_D12_counterproof_conceded(world: World) -> None:
    """Against a shown secret nothing helps: the penalty goes its way; other bytes are no counter-proof."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    txid = pair.commitment_txid(Side.A, 2)
    challenge(world, pair, 2, secret_proof(pair, 2))

    result = respond(world, pair, counter_proof(pair.a, pair.channel_id, 2, txid))
    with pytest.raises(MalformedRequest, match="525 bytes"):
        respond(world, pair, "00")
    world.look()
    world.node.mine(1)
    world.look()

    assert "CONCEDED" == result.outcome
    assert world.status(pair) == "PUNISHED"


# ── uploads before and after their time ──────────────────────────────────────────────────────────────────────────


def test_scenario_D14_upload_before_funding_known(world: World) -> None:
    """Registered before anybody saw the funding transaction: PROPOSED, armed as soon as it is in a block."""
    pair = world.open(confirm=False)
    fresh = world.channel(pair)
    info = ask(world, pair, lambda client: client.get_channel_info(pair.channel_id.hex()))
    again = register(world.context, pair.registration(Side.B))
    world.node.mine(1)
    world.look()
    world.update(pair, 2)

    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    world.node.mine(1)
    world.look()

    assert ("PROPOSED", None, False) == (info.status, fresh.funding_block, again.created)
    assert world.status(pair) == "PUNISHED"


def test_scenario_D15_upload_after_close(world: World) -> None:
    """A state that is newer than the published one is refused once the channel closes, with the reason."""
    pair = world.open(updates=2)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    stored = world.channel(pair).version
    pair.update()

    with pytest.raises(ChannelIsClosed, match="no more updates"):
        ask(
            world,
            pair,
            lambda client: client.upload_state(pair.channel_id.hex(), pair.update_request(Side.B, 3)),
        )

    assert stored == world.channel(pair).version


def test_scenario_B13_future_state_is_explained_by_late_uploads(world: World) -> None:
    """A future state alerts and is never punished; once its states arrive it is the peer's close, and is settled."""
    pair = stopped_short(world, newest=5, challenge_period=4)
    world.node.generate_block([pair.commitment(Side.A, 5)])
    world.look()
    assert frozenset({AlertKind.FUTURE_STATE}) == world.channel(pair).alerts

    ask(world, pair, lambda client: client.synchronize(pair.channel_id))
    for _ in range(5):
        world.look()
        world.node.mine(1)
    world.look()

    settled = world.node.spender(world.contest(pair, 5))
    assert Transaction.parse(pair.settlement(Side.A, 5)).txid == settled
    assert ([], frozenset()) == (world.events(pair, PenaltyPrepared), world.channel(pair).alerts)
    assert world.status(pair) == "SETTLED"


# ── closes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_unilateral_close_and_settlement(world: World) -> None:
    """The own commitment of the newest state goes out, comes back after an eviction and a reorg, and is settled."""
    pair = world.open(updates=3, challenge_period=4)
    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 3))
    world.look()
    world.node.restart(["-persistmempool=0"])
    world.look()
    in_mempool_again = pair.commitment_txid(Side.B, 3) in world.node.mempool()
    world.node.mine(1)
    world.look()
    world.node.reorg(1, [[], []])
    world.look()
    for _ in range(6):
        world.node.mine(1)
        world.look()

    settled = world.node.spender(world.contest(pair, 3, Side.B))
    assert ("UNILATERAL", "IN_MEMPOOL", 1) == (result.kind, result.outcome, result.fee_output)
    assert in_mempool_again
    assert Transaction.parse(pair.settlement(Side.B, 3)).txid == settled
    assert (1, "SETTLED") == (len(world.events(pair, CommitmentPublished)), world.status(pair))


def test_an_own_commitment_is_sent_again_before_it_was_ever_seen(world: World) -> None:
    """Published while the node had no room for it, it goes out with the first pass that finds room; no log has it."""
    pair = world.open(updates=2)
    world.node.restart(["-minrelaytxfee=0.0001"])
    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 2))
    kept = [raw for raw in (getattr(event, "raw", None) for event in world.events(pair)) if raw is not None]
    world.node.restart()

    world.look(2)

    assert "FEE_CHILD_NEEDED" == result.outcome
    assert bytes.fromhex(result.transaction) not in kept
    assert pair.commitment_txid(Side.B, 2) in world.node.mempool()


def test_unilateral_close_with_a_fee_child(world: World) -> None:
    """Where the fixed fee is too low, the transaction of the answer and a child on its anchor are taken together."""
    pair = world.open(updates=1)
    world.node.restart(["-minrelaytxfee=0.0001"])
    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 1))
    raw = bytes.fromhex(result.transaction)
    child = world.node.anchor_child(Transaction.parse(raw).txid, vout=result.fee_output, fee=10_000)

    world.node.submit_package([raw, child])
    world.look()

    assert "UNILATERAL" == world.status(pair)


def test_unilateral_close_of_a_revoked_state(world: World) -> None:
    """The party refuses to sign it, and the tower refuses signatures that were made elsewhere."""
    pair = world.open(updates=3)
    stale = Transaction.parse(pair.commitment(Side.B, 1)).inputs[0].witness
    low = pair.params.keys_a.fund[1:] < pair.params.keys_b.fund[1:]
    signatures = (stale[1].hex(), stale[0].hex()) if low else (stale[0].hex(), stale[1].hex())

    with pytest.raises(Exception, match="own state 1 was revoked"):
        ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 1))
    with pytest.raises(SelfBreachRefused, match="own state 1 was revoked"):
        ask(
            world,
            pair,
            lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 1, signatures),
            with_party=False,
        )

    assert [] == world.events(pair, CommitmentPublished)
    assert set() == world.node.mempool()


def test_scenario_B15_own_old_state_is_replaced_by_the_newest(world: World) -> None:
    """An own revoked state raises SELF_BREACH; the newest one, asked for through the client, replaces it."""
    pair = world.open(updates=3, challenge_period=3)
    world.node.send_raw(pair.commitment(Side.B, 1))
    world.look()
    assert frozenset({AlertKind.SELF_BREACH}) == world.channel(pair).alerts

    result = ask(world, pair, lambda client: client.close_channel_unilateral(pair.channel_id.hex(), 3))
    raw = bytes.fromhex(result.transaction)
    child = world.node.anchor_child(Transaction.parse(raw).txid, fee=5_000)
    world.node.submit_package([raw, child])
    for _ in range(5):
        world.look()
        world.node.mine(1)
    world.look()

    assert "FEE_CHILD_NEEDED" == result.outcome
    assert [AlertKind.SELF_BREACH] == [alert.kind for alert in world.events(pair, AlertRaised)]
    assert [AlertKind.SELF_BREACH] == [alert.kind for alert in world.events(pair, AlertCleared)]
    assert world.status(pair) == "SETTLED"


def test_cooperative_close_until_it_confirms(world: World) -> None:
    """Both sign through the client; the tower sends it, again after an eviction, a restart and a reorg."""
    pair = world.open(updates=3)
    balances = pair.balances
    result = ask(world, pair, lambda client: client.close_channel_cooperative(pair.channel_id.hex(), balances))
    world.node.restart(["-persistmempool=0"])
    world.restart()
    world.look()
    txid = Transaction.parse(bytes.fromhex(result.transaction)).txid
    in_mempool_again = txid in world.node.mempool()
    world.node.mine(1)
    world.look()
    world.node.reorg(1, [[], []])
    world.look(2)
    world.node.mine(1)
    world.look()

    raw = world.node.transaction(txid)
    assert raw is not None
    paid = {out.spk: out.value for out in Transaction.parse(raw).outputs}
    assert ("COOPERATIVE", "IN_MEMPOOL") == (result.kind, result.outcome)
    assert in_mempool_again
    assert balances[0] == paid[pair.params.keys_a.payout]
    assert balances[1] - 392 == paid[pair.params.keys_b.payout]
    assert (1, "SETTLED") == (len(world.events(pair, CloseSigned)), world.status(pair))


def test_cooperative_closes_that_are_refused(world: World) -> None:
    """Balances that do not add up, another division than was signed, and a foreign transaction: nothing is stored."""
    pair = world.open(updates=1)
    name = pair.channel_id.hex()
    stored = world.channel(pair).version
    close = pair.close(Side.B)
    other = (pair.balances[0] - 5, pair.balances[1] + 5)

    with pytest.raises(Exception, match="do not add up to the capacity"):
        ask(world, pair, lambda client: client.close_channel_cooperative(name, (1, 2)))
    with pytest.raises(StateRefused, match="do not add up"):
        ask(world, pair, lambda client: client.close_channel_cooperative(name, (1, 2), transaction=close.hex()))
    with pytest.raises(StateRefused, match="not the cooperative close with these final balances"):
        ask(world, pair, lambda client: client.close_channel_cooperative(name, other, transaction=close.hex()))
    with pytest.raises(StateRefused, match="not the cooperative close"):
        raw = pair.commitment(Side.A, 1).hex()
        ask(world, pair, lambda client: client.close_channel_cooperative(name, pair.balances, transaction=raw))

    assert stored == world.channel(pair).version
    assert set() == world.node.mempool()


# ── transactions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_validate_the_transactions_of_a_channel(world: World) -> None:
    """Each kind is recognized in mempool, log and chain, and every check of the real ones holds."""
    pair = world.open(updates=3, challenge_period=3)
    name = pair.channel_id.hex()

    def validate(tx_id: str, **options: Any) -> Any:
        return ask(world, pair, lambda client: client.validate_transaction(tx_id, **options))

    funding = validate(pair.funding.raw.hex())
    coming = validate(pair.commitment(Side.A, 3).hex(), ask_node=True)
    world.node.send_raw(pair.commitment(Side.A, 1))
    world.look()
    stale = validate(display(pair.commitment_txid(Side.A, 1)))
    spender = world.mempool_spender(world.contest(pair, 1))
    assert spender is not None
    penalty = validate(display(spender.txid))
    settlement = validate(pair.settlement(Side.A, 3).hex(), channel_id=name)
    refused = validate(pair.settlement(Side.A, 3).hex(), channel_id=name, ask_node=True)

    assert ("funding", True) == (funding.kind, funding.valid)
    assert ("commitment", True, "A", 3, False) == (
        coming.kind,
        coming.valid,
        coming.party,
        coming.sequence,
        coming.revoked,
    )
    assert ("commitment", True, 1, True) == (stale.kind, stale.valid, stale.sequence, stale.revoked)
    assert ("penalty", True, 1) == (penalty.kind, penalty.valid, penalty.sequence)
    assert ("settlement", True, 3) == (settlement.kind, settlement.valid, settlement.sequence)
    assert ("settlement", False, ["node"]) == (
        refused.kind,
        refused.valid,
        [each.check for each in refused.findings if not each.ok],
    )


def test_the_state_of_a_channel(world: World) -> None:
    """`get_channel_state` gives the newest complete state back, byte for byte."""
    pair = world.open(updates=3)
    state = ask(world, pair, lambda client: client.get_channel_state(pair.channel_id.hex()))
    content = pair.state(3).content

    assert (3, 3, None) == (state.sequence, state.final_sequence, state.pending)
    assert (content.header.hex(), content.state_data.hex()) == (state.header, state.state_data)
    assert pair.state(3).sigs_a.settle_b.hex() == state.signatures.a.settle_b
    assert [] == world.events(pair, SpendSeen)


# ── profile 1 ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def segwit_world(node: RegtestNode, tmp_path: Path) -> Iterator[World]:
    """A world whose channels have profile 1."""
    story = World(node, tmp_path / "tower", profile=SEGWIT)
    yield story
    story.close()


def test_segwit_v0_channels_have_disputes_and_closes_too(segwit_world: World) -> None:
    """Ladder, own close, cooperative close and their checks with ECDSA signatures (protocol annex C)."""
    world = segwit_world
    contested = stopped_short(world, newest=2)
    world.node.generate_block([contested.commitment(Side.A, 1)])
    world.look()
    challenge(world, contested, 1, ladder_proof(contested, 1, rungs(contested, 1, sweep_of(contested))))
    world.look()
    alone, together = world.open(updates=1), world.open(updates=1)
    own = ask(world, alone, lambda client: client.close_channel_unilateral(alone.channel_id.hex(), 1))
    joint = ask(
        world, together, lambda client: client.close_channel_cooperative(together.channel_id.hex(), together.balances)
    )
    world.look()
    checked = [
        ask(world, pair, lambda client, raw=raw: client.validate_transaction(raw))
        for pair, raw in ((alone, own.transaction), (together, joint.transaction))
    ]
    world.node.mine(1)
    world.look()

    assert ["IN_MEMPOOL", "IN_MEMPOOL"] == [own.outcome, joint.outcome]
    assert [[], []] == [[each for each in found.findings if not each.ok] for found in checked]
    assert ("PUNISHED", "UNILATERAL", "SETTLED") == (
        world.status(contested),
        world.status(alone),
        world.status(together),
    )
