"""The wallet of a real node: funding transactions with fixed txids, locked coins, and children that pay for parents."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from domain.chain import display, make_outpoint
from domain.transaction import Transaction
from domain.units import Side
from tests.support.linking import TERMS, linked
from tests.support.parties import open_pair
from watchtower.client.bitcoind_calls import place_of
from watchtower.client.bitcoind_wallet import WALLET_METHODS, BitcoindWallet
from watchtower.client.funding import open_funded, send_fundings
from watchtower.client.peer_errors import PeerSilent
from watchtower.client.wallet import Pooled, WalletError, check_prepared
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcTransport

SPK = bytes.fromhex("5120") + b"\x02" * 32
ONE = 100_000_000


@pytest.fixture
def wallet(node: RegtestNode) -> BitcoindWallet:
    """The node's wallet, by its own address."""
    return BitcoindWallet(RpcTransport(f"{node.rpc_url}/wallet/purse", cookie_path=node.cookie_path))


def test_a_prepared_transaction_keeps_its_txid(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """Prepare, sign, broadcast twice: the same txid everywhere, and the output pays what was asked."""
    prepared = wallet.prepare(SPK, 1_000_000, 5)
    raw = wallet.sign(prepared)
    wallet.broadcast(raw)
    wallet.broadcast(raw)

    tx = Transaction.parse(raw)
    assert prepared.txid == tx.txid
    assert (1_000_000, SPK) == (tx.outputs[prepared.vout].value, tx.outputs[prepared.vout].spk)
    assert {prepared.txid} == node.mempool()


def test_coins_are_locked_until_release(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """Two preparations never share a coin; released coins are unlocked."""
    first = wallet.prepare(SPK, ONE, 5)
    second = wallet.prepare(SPK, ONE, 5)
    locked = node.rpc("listlockunspent")
    wallet.release(first)

    assert not set(first.coins) & set(second.coins)
    assert len(locked) == len(first.coins) + len(second.coins)
    assert len(node.rpc("listlockunspent")) == len(second.coins)


def test_a_legacy_coin_never_funds_a_channel(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """A wallet that would take a legacy coin is made to take native segwit coins instead."""
    legacy = node.rpc("getnewaddress", "", "legacy")
    segwit = node.wallet_address()
    everything = node.rpc("getbalance")
    node.rpc("sendall", [{legacy: str(everything / 2)}, segwit], None, "unset", 5)
    node.mine(1)

    prepared = wallet.prepare(SPK, ONE, 5)

    assert prepared.txid == Transaction.parse(wallet.sign(prepared)).txid


def test_a_wallet_of_legacy_coins_says_where_to_send_them(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """Money is there, but of a kind that cannot fund a channel: the refusal names an address that helps."""
    node.rpc("sendall", [node.rpc("getnewaddress", "", "legacy")], None, "unset", 5)
    node.mine(1)

    with pytest.raises(WalletError, match="send enough to an address of `getnewaddress '' bech32`"):
        wallet.prepare(SPK, 200 * ONE, 5)


def test_a_transaction_that_pays_less_is_refused(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """The amount, the script and the kind of the coins are checked whatever the wallet says."""
    prepared = wallet.prepare(SPK, ONE, 5)
    segwit = (node.wallet_spk(),) * len(prepared.coins)

    with pytest.raises(WalletError, match="does not pay"):
        check_prepared(prepared, SPK, ONE + 1, segwit)
    with pytest.raises(WalletError, match="native segwit"):
        check_prepared(prepared, SPK, ONE, (b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",) * len(prepared.coins))


def test_too_little_money_is_said(wallet: BitcoindWallet) -> None:
    """A value above the balance is a `WalletError` with the node's words."""
    with pytest.raises(WalletError, match="Insufficient funds"):
        wallet.prepare(SPK, 20_000_000 * ONE, 5)


def test_a_child_carries_a_commitment_that_pays_too_little(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """Below the relay minimum a commitment enters with its child only; a child with a higher rate replaces it."""
    pair = open_pair(partial(node.fund, broadcast=False), static_feerate=1_000)
    node.send_raw(pair.funding.raw)
    node.mine(1)
    node.restart(["-minrelaytxfee=0.00005"])
    parent = pair.commitment(Side.A, 0)
    alone = node.test_accept(parent)
    child = wallet.attach_child(parent, pair.params.commitment_fee, 10)
    wallet.broadcast_package(parent, child)
    size = Transaction.parse(parent).vsize + Transaction.parse(child).vsize
    fees = node.rpc("getmempoolentry", display(Transaction.parse(child).txid))["fees"]

    better = wallet.attach_child(parent, pair.params.commitment_fee, 30)
    wallet.broadcast_package(parent, better)

    assert "min relay fee not met" == alone
    assert pytest.approx(10, abs=0.3) == float(fees["ancestor"]) * ONE / size
    assert {Transaction.parse(parent).txid, Transaction.parse(better).txid} == node.mempool()


def test_a_better_child_takes_coin_and_change_of_the_first(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """One coin for all children of a parent, locked until one is sent; the mempool tells fees and sizes of both."""
    pair = open_pair(partial(node.fund, broadcast=False))
    node.send_raw(pair.funding.raw)
    node.mine(1)
    parent = Transaction.parse(pair.commitment(Side.A, 0))
    node.send_raw(parent.serialize())
    anchor = make_outpoint(parent.txid, 1)
    free = wallet.is_unspent(anchor, mempool=True), wallet.is_unspent(anchor, mempool=False)

    first = Transaction.parse(wallet.make_child(anchor, 1_000, 90_000))
    locked = node.rpc("listlockunspent")
    wallet.broadcast(first.serialize())
    better = Transaction.parse(wallet.make_child(anchor, 3_000, 90_000, first))
    wallet.broadcast(better.serialize())
    for _ in range(2):
        wallet.unlock(better.inputs[1].outpoint)

    size = parent.vsize + better.vsize
    child = (better.txid, 3_000, better.vsize)
    assert Pooled(pair.params.commitment_fee + 3_000, size, (child,)) == wallet.pooled(parent.txid)
    assert (first.inputs[1].outpoint, first.outputs[0].spk) == (better.inputs[1].outpoint, better.outputs[0].spk)
    assert (True, False, False) == (*free, wallet.is_unspent(anchor, mempool=True))
    assert (1, []) == (len(locked), node.rpc("listlockunspent"))
    assert wallet.pooled(first.txid) is None


def test_a_child_of_another_coin_if_the_first_is_too_small(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """The smallest coin with room is taken; one that a fee outgrows gives way, and what no coin pays is said."""
    for amount in ("0.0005", "0.002"):
        node.rpc("sendtoaddress", node.wallet_address(), amount)
    node.mine(1)
    anchor = make_outpoint(bytes(32), 1)

    small = Transaction.parse(wallet.make_child(anchor, 1_000, 40_000))
    large = Transaction.parse(wallet.make_child(anchor, 100_000, 100_000, small))

    assert [50_240 - 1_000, 200_240 - 100_000] == [each.outputs[0].value for each in (small, large)]
    with pytest.raises(WalletError, match="no confirmed segwit coin of 5000000090 sat or more"):
        wallet.make_child(anchor, 50 * ONE, 50 * ONE)


def test_a_child_replaces_no_funding_that_took_its_coin(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """A restarted node has forgotten the lock of a child that was never sent: the better child has another coin."""
    node.rpc("sendtoaddress", node.wallet_address(), "0.0005")
    node.mine(1)
    anchor = make_outpoint(bytes(32), 1)
    first = Transaction.parse(wallet.make_child(anchor, 1_000, 40_000))
    node.restart()
    coin = first.inputs[1].outpoint
    raw = node.rpc("createrawtransaction", [place_of(coin)], [{node.wallet_address(): "0.0004"}])
    funding = node.send_raw(bytes.fromhex(node.rpc("signrawtransactionwithwallet", raw)["hex"]))

    better = Transaction.parse(wallet.make_child(anchor, 30_000, 40_000, first))

    assert coin != better.inputs[1].outpoint
    assert {funding} == node.mempool()


def test_a_coin_that_was_locked_since_it_was_chosen_pays_for_no_child(
    node: RegtestNode, wallet: BitcoindWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening of another thread was faster: its coin is left to it."""
    coins = wallet._native_coins()
    monkeypatch.setattr(wallet, "_native_coins", lambda: coins)
    anchor = make_outpoint(bytes(32), 1)
    node.rpc("lockunspent", False, [place_of(coin) for coin, _ in coins])

    with pytest.raises(WalletError, match="already locked"):
        wallet.make_child(anchor, 1_000, 40_000)


def test_an_opening_signs_after_the_registration(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """The tower hears of the channel with an unsigned transaction; afterwards the signed one is in the mempool."""
    seen: list[tuple[bytes, set[bytes]]] = []

    async def register(channel_id: bytes, unsigned: bytes) -> None:
        seen.append((unsigned, set(node.mempool())))

    async def story() -> bytes:
        async with linked() as two:
            channel_id = await open_funded(two.a, wallet, TERMS, register, feerate=5)
            assert 1 == send_fundings(two.parties[0], wallet)
            return two.parties[0].channel(channel_id).params.funding_txid

    txid = asyncio.run(story())

    assert [(txid, set())] == [(Transaction.parse(raw).txid, before) for raw, before in seen]
    assert () == Transaction.parse(seen[0][0]).inputs[0].witness
    assert {txid} == node.mempool()


def test_an_opening_that_fails_gives_the_coins_back(node: RegtestNode, wallet: BitcoindWallet) -> None:
    """Without the tower's answer nothing is signed and no coin stays locked."""

    async def register(channel_id: bytes, unsigned: bytes) -> None:
        raise PeerSilent("the tower does not answer")

    async def story() -> None:
        async with linked() as two:
            await open_funded(two.a, wallet, TERMS, register, feerate=5)

    with pytest.raises(PeerSilent):
        asyncio.run(story())

    assert [] == node.rpc("listlockunspent")
    assert set() == node.mempool()


def test_the_wallet_needs_no_other_methods(node: RegtestNode) -> None:
    """What the adapter calls is what the documentation tells an operator to allow."""
    called: set[str] = set()
    transport = RpcTransport(
        f"{node.rpc_url}/wallet/purse", cookie_path=node.cookie_path, observe=lambda method, *_: called.add(method)
    )
    wallet = BitcoindWallet(transport)
    wallet.broadcast(wallet.sign(wallet.prepare(SPK, ONE, 5)))
    wallet.release(wallet.prepare(SPK, ONE, 5))
    wallet.market((2, 6))
    wallet.pooled(bytes(32))
    child = Transaction.parse(wallet.make_child(make_outpoint(bytes(32), 1), 500, 500))
    better = Transaction.parse(wallet.make_child(make_outpoint(bytes(32), 1), 900, 900, child))
    wallet.unlock(better.inputs[1].outpoint)

    assert {"getmempoolinfo", "getmempoolentry", "gettxspendingprevout"} < called
    assert set() == called - set(WALLET_METHODS)
