"""A table to play at: a private node, two players with their own logs, and the tower of player A.

Nothing is simulated: the node mines, the tower is a process of its own that loads the rules of the game and is
asked over HTTP. Amounts are satoshi.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from domain.application import Application
from domain.units import Side
from examples.tictactoe.escrow import Signer, escrow_of, pot_of
from examples.tictactoe.rules import APP_ID, Game, TicTacToe
from watchtower import new_tower
from watchtower.client import StateChannelClient, StateChannelConfig, Terms
from watchtower.client.errors import TowerUnavailable, TowerUnreachable
from watchtower.client.party import exchange
from watchtower.client.party.home import create_home, open_home
from watchtower.client.party.party import ChannelParty, PartySettings
from watchtower.client.protocol.consent import Deal
from watchtower.demo.stage import TowerProcess
from watchtower.descriptors import resolve
from watchtower.devnode.launch import free_ports
from watchtower.devnode.provision import find
from watchtower.devnode.regtest import Funding, RegtestNode

BUY_IN = 500_000
STAKE = 100_000
PERIOD = 12
"""Blocks in which a close can be contested. Days on mainnet; a moment where blocks are made by hand."""
KEYSTORE_COST = 2**10
"""Low: the passphrases are random and live as long as the game."""
WAIT_SECONDS = 60.0
ASK_AGAIN_SECONDS = 0.05


def game_consent(deal: Deal) -> str | None:
    """A player agrees to whatever the rules allow, but not to stakes beyond the agreed one."""
    pot = sum(condition.amount for condition in deal.conditions)
    return f"a pot of {pot} sat is more than was agreed" if pot > 2 * STAKE else None


class Table:
    """Node, tower, players and the channel between them; made by `laid`, closed by its exit stack."""

    def __init__(
        self, node: RegtestNode, tower: TowerProcess, client: StateChannelClient, players: dict[Side, ChannelParty]
    ) -> None:
        self.node = node
        self.tower = tower
        self.client = client
        self.players = players
        self.signers = {side: Signer(node) for side in Side}
        self.referee_key = Signer(node)
        self.escrow = escrow_of(*self.signers.values(), self.referee_key)
        self.channel_id = b""

    @classmethod
    def laid(cls, directory: Path, seeds: dict[Side, bytes], stack: ExitStack) -> Table:
        """Start node and tower, make two players; what was started ends with the stack."""
        node = RegtestNode.start(directory / "node", binary=find(), knots_default_policy=False)
        stack.callback(node.close)
        node.mine(1)
        tower, client = _tower(directory / "tower", node)
        tower.start()
        stack.callback(tower.stop)
        players = {side: _player(directory / side.name, seed, stack) for side, seed in seeds.items()}
        return cls(node, tower, client, players)

    # ── playing ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def game(self) -> Game:
        """The position in the newest state."""
        state = self.players[Side.A].channel(self.channel_id).state
        assert state is not None, "a table plays after `open`"
        return Game.read(state.content.state_data)

    @property
    def balances(self) -> tuple[int, int]:
        """Of A and B in the newest state."""
        return self.players[Side.A].channel(self.channel_id).balances

    async def open(self) -> None:
        """Fund the channel and give it to A's tower before the funding is sent."""
        await self.until("the tower watches", self._tower_watches)
        made: list[Funding] = []

        def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
            made.append(self.node.fund(spk, amount, broadcast=False))
            return made[0].txid, made[0].vout

        opener, peer = self.players[Side.A], self.players[Side.B]
        terms = Terms(balances=(BUY_IN, BUY_IN), challenge_period=PERIOD)
        begin = Game.at_rest(self.escrow).encode()
        self.channel_id = exchange.open_channel(opener, peer, terms, fund, state_data=begin, app_id=APP_ID)
        await self.client.register_channel(opener.registration(self.channel_id, made[0].raw))
        self.node.send_raw(made[0].raw)
        self.node.mine(1)
        await self.until("the channel is open", self._is_confirmed)

    async def stake(self) -> None:
        """Both put up their stake: the pot."""
        balance_a, balance_b = self.balances
        await self._agree(Side.A, (balance_a - STAKE, balance_b - STAKE), self.game.begin(), pot=2 * STAKE)

    async def move(self, square: int) -> None:
        """The player on turn marks a square; the move that ends a game pays out the pot."""
        before = self.game
        after = before.move(square)
        balance_a, balance_b = self.balances
        share_a, share_b = after.shares(2 * STAKE) if after.over else (0, 0)
        pot = 0 if after.over else 2 * STAKE
        await self._agree(before.player, (balance_a + share_a, balance_b + share_b), after, pot=pot)

    async def _agree(self, by: Side, balances: tuple[int, int], game: Game, *, pot: int) -> None:
        """One update, proposed by the player who acts. It counts when the tower has it, too."""
        mover, other = self.players[by], self.players[by.other]
        conditions = [pot_of(self.escrow, pot)] if pot else []
        offer = mover.offer(self.channel_id, balances, conditions, game.encode())
        exchange.run(mover, other, offer)
        owner = self.players[Side.A]
        upload = owner.update_body(self.channel_id, owner.channel(self.channel_id).sequence)
        await self.client.upload_state(self.channel_id.hex(), upload)

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────

    async def until_status(self, status: str) -> None:
        """Until the tower says this about the channel."""

        async def reached() -> bool:
            return str((await self.client.get_channel_info(self.channel_id.hex())).status) == status

        await self.until(f"the channel is {status}", reached)

    async def until_height(self) -> None:
        """Until the tower has seen every block."""

        async def seen() -> bool:
            height = (await self.client.get_state()).height
            return height is not None and height >= self.node.height()

        await self.until("the tower has seen the tip", seen)

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        """Ask the tower again until true; a `TimeoutError` says what never came."""
        end = time.monotonic() + WAIT_SECONDS
        while not await condition():
            self.tower.check_alive()
            if time.monotonic() > end:
                raise TimeoutError(f"after {WAIT_SECONDS:.0f} s still not: {what}")
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def _tower_watches(self) -> bool:
        try:
            await self.client.connect()
            return (await self.client.get_state()).watching
        except (TowerUnreachable, TowerUnavailable):
            return False  # not listening yet

    async def _is_confirmed(self) -> bool:
        return (await self.client.get_funding_status(self.channel_id.hex())).confirmed


def _tower(directory: Path, node: RegtestNode) -> tuple[TowerProcess, StateChannelClient]:
    api, admin = free_ports(2)
    made = new_tower.create(
        directory,
        directory / "config.toml",
        "regtest",
        {
            "node": {
                "rpc_url": node.rpc_url,
                "rpc_cookie_path": str(node.cookie_path),
                "zmq_sequence": node.zmq_endpoint,
                "zmq_rawtx": node.zmq_endpoint,
                "zmq_hashblock": node.zmq_endpoint,
                "rest_url": node.rest_url,
            },
            "api": {"listen": f"127.0.0.1:{api}"},
            "admin": {"listen": f"127.0.0.1:{admin}"},
            "applications": {"load": "examples.tictactoe.rules:TicTacToe", "require_known": True},
        },
    )
    url = f"http://127.0.0.1:{api}"
    client = StateChannelClient(
        StateChannelConfig(network="regtest", challenge_period=PERIOD),
        url=url,
        token=made.token_path.read_text().strip(),
    )
    return TowerProcess(made.config_path, directory / "log.json", url), client


def _player(directory: Path, seed: bytes, stack: ExitStack) -> ChannelParty:
    passphrase = secrets.token_bytes(32)
    create_home(directory, "regtest", passphrase, seed=seed, cost=KEYSTORE_COST)
    rules: Application = TicTacToe()
    home = open_home(
        directory,
        passphrase,
        PartySettings(network="regtest"),
        consent=game_consent,
        applications=(rules,),
        resolve=resolve,
    )
    stack.enter_context(home)
    return home.party
