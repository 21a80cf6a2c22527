"""Descriptor outputs in the life of a channel: settled by the tower, spent by who satisfies them, or punished."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest

from domain.chain import display
from domain.contract.conditions import Condition
from domain.contract.descriptors import with_checksum
from domain.contract.params import SEGWIT, TAPROOT
from domain.errors import InvalidState
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.regtest.world import World
from tests.support.miniscripts import KEYS, A, B, C, xonly
from tests.support.parties import Pair
from watchtower.client.protocol.contents import descriptor_condition
from watchtower.descriptors import resolve
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcRefused

AMOUNT = 40_000
LOCK = 700
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def wif(key: str) -> str:
    """The private key of a test key, as a node on regtest reads it (base58check, compressed)."""
    payload = b"\xef" + sha256(b"descriptor key %d" % KEYS.index(key)).digest() + b"\x01"
    number = int.from_bytes(payload + sha256(sha256(payload).digest()).digest()[:4])
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return digits


ESCROW = f"wsh(thresh(2,pk({A}),s:pk({B}),sln:after({LOCK})))"
TREE = f"tr({xonly(A)},{{pk({xonly(B)}),and_v(v:pk({xonly(C)}),older(3))}})"


def settled(world: World, *descriptors: str) -> tuple[Pair, Transaction]:
    """A channel whose newest state has these outputs, closed by A, settled by B's tower and mined."""
    pair = world.open(updates=1, challenge_period=3)
    conditions = [descriptor_condition(number, AMOUNT, text) for number, text in enumerate(descriptors)]
    world.upload(pair, pair.with_htlcs(*conditions))
    world.node.generate_block([pair.commitment(Side.A, pair.sequence)])
    world.look()
    world.node.mine(2)
    world.look()
    world.node.mine(1)
    world.look()
    raw = world.node.transaction(Transaction.parse(pair.settlement(Side.A, pair.sequence)).txid)
    assert raw is not None
    return pair, Transaction.parse(raw)


def spend(
    node: RegtestNode, settlement: Transaction, descriptor: str, *signers: str, lock_time: int = 0, sequence: int
) -> bytes:
    """A spend of a descriptor's output, signed by the node with the private keys of these signers."""
    place = next(number for number, output in enumerate(settlement.outputs) if output.spk == resolve(descriptor))
    source = {"txid": display(settlement.txid), "vout": place, "sequence": sequence}
    target = {node.wallet_address(): str(Decimal(AMOUNT - 1_000) / 100_000_000)}
    psbt = node.rpc("createpsbt", [source], [target], lock_time)
    secret = descriptor
    for signer in signers:
        secret = secret.replace(signer, wif(signer)).replace(xonly(signer), wif(signer))
    answer = node.rpc("descriptorprocesspsbt", psbt, [node_form(node, secret)])
    assert answer["complete"], "the signers do not satisfy the descriptor"
    return bytes.fromhex(answer["hex"])


def node_form(node: RegtestNode, descriptor: str) -> str:
    """With the checksum that the node wants."""
    return f"{descriptor}#{node.rpc('getdescriptorinfo', descriptor)['checksum']}"


@pytest.fixture(params=[TAPROOT, SEGWIT])
def either(node: RegtestNode, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world whose channels have one profile or the other."""
    story = World(node, tmp_path / "tower", profile=request.param)
    yield story
    story.close()


def test_an_escrow_is_settled_and_spent_by_two_signatures(either: World) -> None:
    """`wsh(thresh(…))`: the tower settles, the node finds two signatures enough, long before the lock."""
    world = either
    pair, settlement = settled(world, ESCROW)

    raw = spend(world.node, settlement, ESCROW, A, B, sequence=0xFFFFFFFD)
    world.node.send_raw(raw)
    world.node.mine(1)

    assert TxOut(AMOUNT, resolve(ESCROW)) in settlement.outputs
    assert world.height_of(Transaction.parse(raw).txid) == world.node.height()
    assert world.status(pair) == "SETTLED"


def test_an_escrow_is_spent_by_one_signature_after_its_lock(world: World) -> None:
    """The third key of the threshold is time: refused at the height before, mined after it."""
    _, settlement = settled(world, ESCROW)
    raw = spend(world.node, settlement, ESCROW, A, lock_time=LOCK, sequence=0xFFFFFFFD)

    world.node.mine(LOCK - 1 - world.node.height())
    early = world.node.test_accept(raw)
    world.node.mine(1)
    world.node.send_raw(raw)
    world.node.mine(1)

    assert early == "non-final"
    assert world.height_of(Transaction.parse(raw).txid) == LOCK + 1


@pytest.mark.parametrize(("signer", "sequence", "wait"), [(A, 0xFFFFFFFD, 0), (B, 0xFFFFFFFD, 0), (C, 3, 2)])
def test_a_taproot_tree_is_spent_by_its_key_and_by_each_leaf(
    world: World, signer: str, sequence: int, wait: int
) -> None:
    """Key path, a leaf with one signature, and a leaf with a relative lock of three blocks."""
    _, settlement = settled(world, TREE)
    raw = spend(world.node, settlement, TREE, signer, sequence=sequence)

    world.node.mine(wait)
    world.node.send_raw(raw)
    world.node.mine(1)

    assert TxOut(AMOUNT, resolve(TREE)) in settlement.outputs
    assert world.height_of(Transaction.parse(raw).txid) == world.node.height()


def test_a_lock_that_has_not_passed_keeps_the_leaf_shut(world: World) -> None:
    """The same spend two blocks earlier is not final."""
    _, settlement = settled(world, TREE)

    raw = spend(world.node, settlement, TREE, C, sequence=3)

    assert world.node.test_accept(raw) == "non-BIP68-final"
    with pytest.raises(RpcRefused):
        world.node.generate_block([raw])


def test_one_penalty_takes_descriptor_outputs_too(either: World) -> None:
    """A stale state with two descriptor outputs is published: the one penalty takes the whole contest output."""
    world = either
    pair = world.open(updates=1)
    outputs = [descriptor_condition(0, AMOUNT, ESCROW), descriptor_condition(1, AMOUNT, TREE)]
    stale = pair.with_htlcs(*outputs)
    world.upload(pair, stale)
    pair.update((460_000, 540_000))
    world.upload(pair, pair.sequence)

    world.node.generate_block([pair.commitment(Side.A, stale)])
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, stale)
    assert penalty is not None
    assert (1, 1) == (len(penalty.inputs), len(penalty.outputs))
    assert penalty.outputs[0].value > 980_000
    assert world.status(pair) == "PUNISHED"


def test_the_stored_state_survives_a_restart_of_the_tower(world: World) -> None:
    """Text and script of a descriptor are in the log: nothing is resolved again to settle."""
    pair = world.open(updates=1, challenge_period=3)
    world.upload(pair, pair.with_htlcs(descriptor_condition(7, AMOUNT, TREE)))

    world.restart()

    record = world.channel(pair).state(pair.sequence)
    assert record is not None
    condition: Condition = record.read_conditions()[0]
    assert (TREE, resolve(TREE)) == (condition.descriptor, condition.spk)


def test_parties_refuse_what_the_engine_refuses(world: World) -> None:
    """An insane output is refused before anybody signs."""
    pair = world.open(updates=1)

    with pytest.raises(InvalidState, match="asks for no signature"):
        pair.with_htlcs(descriptor_condition(0, AMOUNT, "wsh(older(10))"))

    assert pair.sequence == 1


def test_checksums_of_private_forms_are_the_nodes(node: RegtestNode) -> None:
    """What these tests hand to the node is what its own checksum says."""
    text = f"wpkh({wif(A)})"

    assert node_form(node, text) == with_checksum(text)
