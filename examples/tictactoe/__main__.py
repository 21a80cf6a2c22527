"""`python -m examples.tictactoe`: play at a private table, or watch one of the three endings."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from domain.units import Side
from examples.tictactoe.endings import CLOSE_FEE, Payout, cheat_with, drawn, fair, paid, payouts, silent
from examples.tictactoe.rules import Game
from examples.tictactoe.table import BUY_IN, STAKE, Table
from watchtower.client.party import exchange

ENDINGS = ("fair", "silent", "cheat")


def main(arguments: Sequence[str] | None = None) -> None:
    """Lay the table, play, and print what the chain shows."""
    parser = argparse.ArgumentParser(prog="python -m examples.tictactoe", description=__doc__)
    parser.add_argument("ending", nargs="?", choices=(*ENDINGS, "play"), default="play")
    chosen = parser.parse_args(arguments).ending
    seeds = {side: secrets.token_bytes(32) for side in Side}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tictactoe-")))
        say(f"laying the table: a private node, a tower, two players with {BUY_IN:,} sat each")
        table = Table.laid(directory, seeds, stack)
        shown = asyncio.run(_evening(table, chosen, seeds[Side.B]))
    say("on the chain:")
    for payout in shown:
        say(f"  {payout.amount:>9,} sat  {payout.owner:<12} {payout.txid[:16]}… block {payout.height}")


async def _evening(table: Table, chosen: str, seed_b: bytes) -> list[Payout]:
    await table.open()
    say(f"channel {table.channel_id.hex()[:16]} is open, the tower knows the rules")
    endings = {"fair": fair, "silent": silent, "cheat": cheat_with(seed_b), "play": at_the_keyboard}
    try:
        return await endings[chosen](table, say)
    finally:
        await table.client.disconnect()


async def at_the_keyboard(table: Table, tell: object) -> list[Payout]:
    """You are A; B is a program that takes the best free square."""
    del tell
    await table.stake()
    say(f"{STAKE:,} sat each are in the pot. You are X. Squares are 1 to 9, row by row.")
    while not table.game.over:
        game = table.game
        await table.move(asked(game) if game.player is Side.A else best_square(game))
        say(drawn(table.game.board))
    winner = table.game.winner
    say("a draw" if winner is None else f"{winner.name} wins")
    players = table.players
    raw = exchange.close(players[Side.A], players[Side.B], table.channel_id, table.balances, CLOSE_FEE)
    table.node.send_raw(raw)
    table.node.mine(1)
    return paid(table, raw, payouts(table))


def asked(game: Game) -> int:
    """A free square from the keyboard."""
    while True:
        sys.stdout.write(f"your square ({', '.join(str(square + 1) for square in game.free)}): ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            raise SystemExit("the game was left; nothing is lost, the channel is on a private chain")
        text = line.strip()
        if text.isdecimal() and int(text) - 1 in game.free:
            return int(text) - 1


def best_square(game: Game) -> int:
    """Never loses: the square with the best outcome for the player on turn."""
    return max(game.free, key=lambda square: -_worth(game.move(square)))


def _worth(game: Game) -> int:
    """1 if the player on turn can win, 0 for a draw, -1 if he loses."""
    if game.over:
        return 0 if game.winner is None else -1
    return max(-_worth(game.move(square)) for square in game.free)


def say(text: str) -> None:
    """One line, now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
