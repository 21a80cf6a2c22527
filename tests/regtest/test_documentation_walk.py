"""The documentation's client listing, method by method with its own values, between two parties on a real node.

50,000,000 + 50,000,000 sat, challenge period 144, ten payments of 1,000,000 with state_data "payment_1" …, closed with
40,000,000 / 60,000,000. Told with the asynchronous client, with its synchronous twin, and without Taproot.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.chain import display, from_display
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.town import Town, found_town
from tests.support.cheater import unsafe_commitment
from tests.support.service import Run
from watchtower.client import (
    ChannelParams,
    ChannelParticipant,
    ChannelResult,
    StateChannelConfig,
    StateUpdate,
)
from watchtower.client.party.proofs import counter_proof, revocation_proof
from watchtower.devnode.regtest import RegtestNode

HALF, PAYMENT = 50_000_000, 1_000_000
FINAL = (40_000_000, 60_000_000)
CONFIG = StateChannelConfig(network="regtest")
WAIT_MS = 60_000

pytestmark = pytest.mark.slow


def payment(channel_id: str, number: int) -> StateUpdate:
    """The listing's i-th update: Alice pays Bob."""
    balances = (HALF - number * PAYMENT, HALF + number * PAYMENT)
    return StateUpdate(channel_id, number, balances, f"payment_{number}", [])


async def create(town: Town, alice: Any, bob: Any, **changes: Any) -> ChannelResult:
    """The listing's channel, with the keys that both parties tell; mined, and active at both towers."""
    keys = [party.next_funding_key().hex() for party in (alice.party, bob.party)]
    participants = [ChannelParticipant(pubkey=key, initial_balance=HALF) for key in keys]
    params = ChannelParams(participants=participants, challenge_period=144, **changes)
    result: ChannelResult = await alice.create_channel(params)
    assert not (await alice.get_funding_status(result.channel_id)).confirmed
    town.node.mine(1)
    for client in (alice, bob):
        await client.wait_for_status(result.channel_id, "ACTIVE", timeout_ms=WAIT_MS)
    return result


def paid(node: RegtestNode, txid: str) -> list[int]:
    """The unspent outputs of a confirmed transaction in satoshi, smallest first."""
    raw = node.transaction(from_display(txid))
    assert raw is not None
    found = [node.rpc("gettxout", txid, vout) for vout in range(len(Transaction.parse(raw).outputs))]
    return sorted(round(output["value"] * 100_000_000) for output in found if output is not None)


async def the_complete_workflow(town: Town, alice: Any, bob: Any) -> None:
    """The listing from connect to the cooperative close; the chain shows the final balances less the fee."""
    state = await alice.get_state()
    created = await create(town, alice, bob)
    channel_id = created.channel_id
    results = [await alice.update_state(payment(channel_id, number)) for number in range(1, 11)]
    again = await alice.update_state(payment(channel_id, 10))
    newest = await alice.get_channel_state(channel_id)
    info = await alice.get_channel_info(channel_id)
    closed = await alice.close_channel_cooperative(channel_id, list(FINAL))
    judged = await alice.validate_transaction(closed.txid)
    town.node.mine(1)

    fee = 2 * HALF - sum(output.value for output in Transaction.parse(bytes.fromhex(closed.transaction)).outputs)
    assert (True, "regtest", 1) == (state.operational, state.network, state.protocol_version)
    assert [(number, number) for number in range(1, 11)] == [(each.sequence, each.final_sequence) for each in results]
    assert (True, 10) == (again.duplicate, again.sequence)
    assert (10, FINAL, b"payment_10".hex()) == (newest.sequence, newest.balances, newest.state_data)
    assert (10, FINAL, 144, created.funding_txid) == (
        info.current_sequence,
        info.balances,
        info.challenge_period,
        info.funding_txid,
    )
    assert ("cooperative-close", True) == (judged.kind, judged.valid)
    assert [FINAL[0] - fee, FINAL[1]] == paid(town.node, closed.txid)


async def a_unilateral_close(town: Town, alice: Any, bob: Any) -> None:
    """The listing's `close_channel_unilateral`: after 144 blocks the tower has settled the newest balances."""
    created = await create(town, alice, bob, funding_script="taproot")
    for number in (1, 2):
        await alice.update_state(payment(created.channel_id, number))
    closed = await alice.close_channel_unilateral(created.channel_id, 2, [])
    town.node.wait_in_mempool(from_display(closed.txid))
    town.node.mine(1)
    await alice.wait_for_status(created.channel_id, "UNILATERAL", timeout_ms=WAIT_MS)
    town.node.mine(143)
    settled = town.node.wait_spender(from_display(closed.txid) + bytes(4), 60)
    town.node.mine(1)

    fees = 2 * HALF - sum(paid(town.node, display(settled)))
    assert "UNILATERAL" == closed.kind
    assert 0 < fees < 2_000
    assert HALF + 2 * PAYMENT - fees <= paid(town.node, display(settled))[-1] <= HALF + 2 * PAYMENT


async def a_dispute(town: Town, alice: Any, bob: Any, cheats: bytes) -> None:
    """The listing's `challenge_state` and `respond_to_challenge`: a revoked state is published and punished."""
    created = await create(town, alice, bob)
    name, channel_id = bytes.fromhex(created.channel_id), created.channel_id
    for number in (1, 2, 3):
        await alice.update_state(payment(channel_id, number))
    revoked = unsafe_commitment(cheats, alice.party, name, 1)
    town.node.send_raw(revoked.serialize())
    proof = revocation_proof(bob.party, name, 1, revoked.txid)
    verdict = await bob.verify_proof(proof)
    judged = await bob.validate_transaction(display(revoked.txid))
    challenged = await bob.challenge_state(channel_id, 1, proof)
    answered = await bob.respond_to_challenge(channel_id, counter_proof(alice.party, name, 1, revoked.txid))
    penalty = town.node.wait_spender(revoked.txid + bytes(4), 60)
    town.node.mine(1)
    await bob.wait_for_status(channel_id, "PUNISHED", timeout_ms=WAIT_MS)

    assert ("VALID_ENFORCEABLE", "commitment", True) == (verdict.verdict, judged.kind, judged.revoked)
    assert ("VALID_ENFORCEABLE", "A", 1) == (challenged.verdict, challenged.party, challenged.sequence)
    assert "CONCEDED" == answered.outcome
    assert 0.99 * 2 * HALF < max(paid(town.node, display(penalty)))


async def walk(town: Town, alice: Any, bob: Any, cheats: bytes) -> None:
    """All of it, one channel after the other."""
    await the_complete_workflow(town, alice, bob)
    await a_unilateral_close(town, alice, bob)
    await a_dispute(town, alice, bob, cheats)


@pytest.mark.parametrize("taproot", [True, False], ids=["taproot", "segwit"])
def test_the_documentation_with_the_asynchronous_client(
    node: RegtestNode, tmp_path: Path, run: Run, taproot: bool
) -> None:
    """Every method of the listing does what it says, with and without Taproot."""
    config = StateChannelConfig(network="regtest", taproot_enabled=taproot)

    async def story(town: Town) -> None:
        async with town.clients(config) as (alice, bob):
            await walk(town, alice, bob, town.seeds[Side.A])

    with found_town(node, tmp_path, run, config) as town:
        asyncio.run(story(town))


def test_the_documentation_with_the_synchronous_client(node: RegtestNode, tmp_path: Path, run: Run) -> None:
    """The twin does the same."""

    async def story(town: Town) -> None:
        async with town.sync_clients(CONFIG) as (alice, bob):
            await walk(town, alice, bob, town.seeds[Side.A])

    with found_town(node, tmp_path, run, CONFIG) as town:
        asyncio.run(story(town))
