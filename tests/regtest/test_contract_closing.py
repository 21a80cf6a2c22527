"""Cooperative closes on a node: by leaf and by key path, replaced by better fees, refused when they must be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from domain.chain import make_outpoint
from domain.contract.closing import is_cooperative_close
from domain.errors import InvalidState
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.regtest.contract_stage import enter, fee_of, open_channel, publish, weight_of
from tests.support.parties import Pair, htlc
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.messages import (
    AnyMessage,
    CloseAcceptMusig,
    CloseProposeMusig,
    CloseSignedMusig,
    Message,
)
from watchtower.devnode.regtest import RegtestNode


class _NonceTap:
    """A faithful wire that remembers the public nonces of both sides."""

    def __init__(self) -> None:
        self.nonces: list[bytes] = []

    def __call__(self, sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        arrived = exchange.deliver(sender, message)
        self.nonces += [bytes(each.nonce) for each in arrived if isinstance(each, CloseProposeMusig | CloseAcceptMusig)]
        return arrived


def _lose_joined(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
    return [each for each in exchange.deliver(sender, message) if not isinstance(each, CloseSignedMusig)]


@pytest.mark.parametrize("closer", list(Side))
@pytest.mark.parametrize(("musig", "weight"), [(False, 784), (True, 616)], ids=["leaf", "key path"])
def test_cooperative_close_is_mined(node: RegtestNode, closer: Side, musig: bool, weight: int) -> None:
    """A close has 784 WU by leaf and 616 WU by key path; the closer alone pays the fee, to the satoshi."""
    pair = open_channel(node)
    pair.updates(3)
    raw = pair.close(closer, fee=900, musig=musig)
    assert fee_of(node, raw) == 900
    assert enter(node, raw) == weight
    fees = {closer: 900, closer.other: 0}
    expected = (
        TxOut(497_000 - fees[Side.A], pair.params.keys_a.payout),
        TxOut(503_000 - fees[Side.B], pair.params.keys_b.payout),
    )
    assert expected == Transaction.parse(raw).outputs


def test_scenario_C11_coop_close_rbf_three_times(node: RegtestNode) -> None:
    """Each replacement by MuSig2 has fresh nonces; the leaf form of the last has the same txid and outputs."""
    pair = open_channel(node)
    tap = _NonceTap()
    raws = [_close_by_key_path(pair, fee, tap) for fee in (400, 800, 1_200, 1_600)]
    sent = [node.send_raw(raw) for raw in raws]
    pair.close(Side.A, fee=1_600)
    by_leaf = pair.b.close_transaction(pair.channel_id) or b""
    assert node.mempool() == {sent[-1]}
    assert len(set(sent)) == 4
    assert len(tap.nonces) == len(set(tap.nonces)) == 8
    assert [784, 616] == [weight_of(node, by_leaf), weight_of(node, raws[-1])]
    assert Transaction.parse(by_leaf).txid == sent[-1]
    assert Transaction.parse(by_leaf).outputs == Transaction.parse(raws[-1]).outputs
    node.generate_block([by_leaf])
    assert node.mempool() == set()


def test_retried_close_has_fresh_nonces(node: RegtestNode) -> None:
    """The same close signed twice by MuSig2 is one transaction with two signatures, from four different nonces."""
    pair = open_channel(node)
    tap = _NonceTap()
    first, second = (_close_by_key_path(pair, 500, tap) for _ in range(2))
    assert len(set(tap.nonces)) == 4
    assert Transaction.parse(first).txid == Transaction.parse(second).txid
    assert first != second
    assert node.test_accept(first) == ""
    assert enter(node, second) == 616


def test_scenario_C12_coop_close_with_pending_htlc(node: RegtestNode) -> None:
    """While an HTLC is pending neither side proposes a close; after it is resolved the close is mined."""
    pair = open_channel(node)
    pair.with_htlcs(htlc(Side.A, 1, 20_000, 400))
    for closer in Side:
        with pytest.raises(InvalidState, match="pending"):
            exchange.close(pair.parties[closer], pair.parties[closer.other], pair.channel_id, (480_000, 520_000), 1_000)
    pair.update((480_000, 520_000))
    assert enter(node, pair.close(Side.B)) == 784


def test_close_by_leaf_after_a_lost_signature(node: RegtestNode) -> None:
    """If the joined MuSig2 signature never arrives, the leaf form of the same close gives the peer its copy."""
    pair = open_channel(node)
    joined = exchange.close(pair.a, pair.b, pair.channel_id, pair.balances, 700, musig=True, carry=_lose_joined)
    assert pair.b.close_transaction(pair.channel_id) is None
    pair.close(Side.A, fee=700)
    by_leaf = pair.b.close_transaction(pair.channel_id) or b""
    assert pair.a.close_transaction(pair.channel_id) == joined
    assert Transaction.parse(joined).txid == Transaction.parse(by_leaf).txid
    assert node.test_accept(joined) == ""
    assert enter(node, by_leaf) == 784


@pytest.mark.parametrize("musig", [False, True], ids=["leaf", "key path"])
def test_close_replaces_a_waiting_commitment(node: RegtestNode, musig: bool) -> None:
    """Both parties may still agree while a commitment with its child waits: the better fee replaces them."""
    pair = open_channel(node)
    commitment = pair.commitment(Side.A, 0)
    node.submit_package([commitment, node.anchor_child(pair.commitment_txid(Side.A, 0), fee=2_000)])
    close = pair.close(Side.B, fee=5_000, musig=musig)
    publish(node, close)
    assert node.mempool() == set()
    assert node.spender(make_outpoint(pair.funding.txid, pair.funding.vout)) == Transaction.parse(close).txid


def test_close_with_a_lock_time_waits_for_its_height(node: RegtestNode) -> None:
    """A close locked to a height is refused at the tip below it and accepted at the tip of that height."""
    pair = open_channel(node)
    height = node.height() + 1
    raw = exchange.close(pair.a, pair.b, pair.channel_id, pair.balances, 1_000, lock_time=height)
    assert node.test_accept(raw) == "non-final"
    node.mine(1)
    assert enter(node, raw) == 784


def test_close_omits_a_balance_below_dust(node: RegtestNode) -> None:
    """A side with 329 sat gets no output; what it had is fee."""
    pair = open_channel(node, balances=(999_671, 329))
    raw = pair.close(Side.A, fee=1_000)
    assert fee_of(node, raw) == 1_000 + 329
    assert enter(node, raw) == 784 - 172
    assert is_cooperative_close(Transaction.parse(raw), pair.params)


def _close_by_key_path(pair: Pair, fee: int, tap: _NonceTap) -> bytes:
    return exchange.close(pair.a, pair.b, pair.channel_id, pair.balances, fee, musig=True, carry=tap)
