"""How a game can end: fairly, with a player who falls silent, or with one who cheats. The chain has the last word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from domain.chain import display, make_outpoint
from domain.transaction import Transaction
from domain.units import Side
from examples.tictactoe.escrow import draw_up
from examples.tictactoe.referee import check_claim
from examples.tictactoe.table import PERIOD, Table
from watchtower.client.party import exchange
from watchtower.demo.cheater import unsafe_commitment

Tell = Callable[[str], None]
CLOSE_FEE = 1_000


class Payout(msgspec.Struct, frozen=True):
    """An output on the chain: who can spend it, how much (satoshi), in which block."""

    owner: str
    amount: int
    txid: str
    height: int


def paid(table: Table, raw: bytes, scripts: dict[bytes, str]) -> list[Payout]:
    """The outputs of a mined transaction that go to known scripts, read from the node."""
    tx = Transaction.parse(raw)
    place = table.node.confirmation(tx.txid)
    if place is None:
        raise TimeoutError(f"transaction {display(tx.txid)} is not in the chain")
    return [
        Payout(scripts[output.spk], output.value, display(tx.txid), place.height)
        for output in tx.outputs
        if output.spk in scripts
    ]


def payouts(table: Table) -> dict[bytes, str]:
    """The script of each player's share."""
    params = table.players[Side.A].channel(table.channel_id).params
    return {params.keys(side).payout: side.name for side in Side}


async def play(table: Table, squares: tuple[int, ...], tell: Tell) -> None:
    """Stakes, then these moves."""
    await table.stake()
    tell(f"stakes are in the pot; balances {table.balances[0]:,} / {table.balances[1]:,} sat")
    for square in squares:
        player = table.game.turn
        await table.move(square)
        tell(f"{player} marks square {square + 1}: {drawn(table.game.board)}")


def drawn(board: str) -> str:
    """A board in one line."""
    return " ".join("".join(board[row : row + 3]) for row in (0, 3, 6))


async def fair(table: Table, tell: Tell) -> list[Payout]:
    """A wins, B signs the payout, both close the channel together."""
    await play(table, (4, 0, 2, 6, 3, 5, 1, 7, 8), tell)
    tell("a draw: each has the stake back; they play again")
    await play(table, (0, 1, 4, 2, 8), tell)
    tell(f"A wins; balances {table.balances[0]:,} / {table.balances[1]:,} sat")
    raw = exchange.close(table.players[Side.A], table.players[Side.B], table.channel_id, table.balances, CLOSE_FEE)
    table.node.send_raw(raw)
    table.node.mine(1)
    await table.until_status("SETTLED")
    return paid(table, raw, payouts(table))


async def silent(table: Table, tell: Tell) -> list[Payout]:
    """A is about to win and B no longer answers: A closes alone, and the referee co-signs for the pot."""
    await play(table, (0, 1, 4, 2), tell)
    winning = 8
    tell(f"A wants square {winning + 1} and wins with it, but B has left the table")
    player = table.players[Side.A]
    channel = player.channel(table.channel_id)
    commitment = player.sign_commitment(table.channel_id, channel.sequence)
    table.node.send_raw(commitment)
    table.node.mine(1)
    tell(f"block {table.node.height()}: A closes alone with state {channel.sequence}")
    await table.until_height()
    settlement = player.settlement(table.channel_id, channel.sequence, Side.A)
    await _mine_until_settled(table, settlement)
    tell(f"block {table.node.height()}: the tower has settled it; the pot waits for two of three keys")
    state = player.state(table.channel_id, channel.sequence)
    check_claim(channel.params, state, Transaction.parse(settlement).txid, Side.A, winning)
    pot = _pay_out_pot(table, settlement)
    tell("the referee has seen the signed position and the winning move, and signs with A")
    scripts = payouts(table) | {Transaction.parse(pot).outputs[0].spk: "A (the pot)"}
    return paid(table, settlement, scripts) + paid(table, pot, scripts)


async def _mine_until_settled(table: Table, settlement: bytes) -> None:
    table.node.mine(PERIOD - 1)
    txid = Transaction.parse(settlement).txid
    await table.until_height()
    table.node.wait_in_mempool(txid)
    table.node.mine(1)
    await table.until_status("SETTLED")


def _pay_out_pot(table: Table, settlement: bytes) -> bytes:
    """Signed by A, then by the referee; mined."""
    psbt = draw_up(table.node, settlement, table.escrow, table.node.wallet_address())
    signed = table.signers[Side.A].sign(table.node, psbt, table.escrow)
    complete = table.referee_key.sign(table.node, signed["psbt"], table.escrow)
    raw = bytes.fromhex(complete["hex"])
    table.node.send_raw(raw)
    table.node.mine(1)
    return raw


def cheat_with(seed_b: bytes) -> Callable[[Table, Tell], Awaitable[list[Payout]]]:
    """B loses and then publishes the state before the game, with a program that no honest player has."""

    async def cheat(table: Table, tell: Tell) -> list[Payout]:
        await play(table, (0, 1, 4, 2, 8), tell)
        tell(f"A wins; balances {table.balances[0]:,} / {table.balances[1]:,} sat")
        stale = unsafe_commitment(seed_b, table.players[Side.B], table.channel_id, 0)
        table.node.send_raw(stale.serialize())
        tell("B publishes state 0, in which nobody had lost anything")
        contest = make_outpoint(stale.txid, 0)
        penalty = table.node.transaction(table.node.wait_spender(contest))
        assert penalty is not None, "the node has just named it"
        table.node.mine(1)
        await table.until_status("PUNISHED")
        tell("A's tower answered in the mempool: the penalty takes the whole channel")
        sweep = bytes(table.players[Side.A].registration(table.channel_id).sweep_spk)
        return paid(table, penalty, {sweep: "A (penalty)"})

    return cheat
