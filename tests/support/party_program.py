"""A party as a process of its own, for tests: commands as JSON lines on standard input, one answer line each.

    python -m tests.support.party_program '{"home": …, "port": 0, "peers": [], "wallet": null}'

The first line that it prints has its address. The command `crash` makes the process kill itself at the n-th
point from then on at which the party is about to store, has stored, or is about to send: with SIGKILL, so that
nothing is cleaned up.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from domain.errors import DomainError
from tests.support.linking import TERMS, fund
from watchtower.client.bitcoind_wallet import BitcoindWallet
from watchtower.client.errors import StateChannelError
from watchtower.client.funding import open_funded, send_fundings
from watchtower.client.party.home import PartyHome, open_home
from watchtower.client.party.party import PartySettings
from watchtower.client.peers.server import PartyServer
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.transport.curve_key import PeerAddress
from watchtower.client.transport.curve_socket import Timing
from watchtower.client.wallet import FundingWallet
from watchtower.node.transport import RpcTransport

PASSPHRASE = b"for tests"
TIMING = Timing(heartbeat=0.5)


class Fuse:
    """A failpoint that kills the process at its n-th passing."""

    def __init__(self) -> None:
        self.left = -1

    def __call__(self, name: str) -> None:
        """Pass, or die."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Program:
    """What the commands do."""

    def __init__(self, home: PartyHome, server: PartyServer, wallet: FundingWallet | None, fuse: Fuse) -> None:
        self._home, self._server, self._wallet, self._fuse = home, server, wallet, fuse

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run one command; refusals are answers."""
        try:
            result: dict[str, Any] = await getattr(self, "do_" + command.pop("do"))(**command)
        except (StateChannelError, DomainError) as error:
            return {"error": type(error).__name__, "text": str(error)}
        return result

    async def do_crash(self, after: int) -> dict[str, Any]:
        """Arm the fuse."""
        self._fuse.left = after
        return {}

    async def do_crash_before_broadcast(self) -> dict[str, Any]:
        """Die when the wallet is about to send something."""
        assert self._wallet is not None
        self._wallet.broadcast = lambda raw: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        return {}

    async def do_send_fundings(self) -> dict[str, Any]:
        """What a served party does at its start."""
        assert self._wallet is not None
        return {"sent": await asyncio.to_thread(send_fundings, self._home.party, self._wallet)}

    async def do_open(self, peer: str) -> dict[str, Any]:
        """Open a channel, with real money if there is a wallet."""
        link = await self._server.link(bytes.fromhex(peer))
        if self._wallet is None:
            channel_id = await link.open_channel(TERMS, fund)
        else:
            channel_id = await open_funded(link, self._wallet, TERMS, None, feerate=5)
        return {"channel": channel_id.hex()}

    async def do_update(self, peer: str, channel: str, balances: list[int]) -> dict[str, Any]:
        """Make the next state."""
        link = await self._server.link(bytes.fromhex(peer))
        return {"sequence": await link.update(bytes.fromhex(channel), (balances[0], balances[1]))}

    async def do_rest(self, peer: str, channel: str) -> dict[str, Any]:
        """Wait for a link and for a channel without anything in flight; where it stands."""
        link = await self._server.link(bytes.fromhex(peer))
        found = await link.wait_for(bytes.fromhex(channel), lambda each: each.pending is None and each.firm is not None)
        return standing(found)

    async def do_close(self, peer: str, channel: str, balances: list[int]) -> dict[str, Any]:
        """Close together; the transaction."""
        link = await self._server.link(bytes.fromhex(peer))
        raw = await link.close_channel(bytes.fromhex(channel), (balances[0], balances[1]), 1_000)
        return {"raw": raw.hex()}


def standing(channel: PartyChannel) -> dict[str, Any]:
    """What both sides must agree on, and what this side has revoked."""
    assert channel.state is not None
    return {
        "sequence": channel.sequence,
        "balances": list(channel.balances),
        "state_hash": channel.state.content.state_hash.hex(),
        "own_released": channel.own_released,
        "frozen": channel.frozen is not None,
    }


def say(answer: dict[str, Any]) -> None:
    """One line on standard output."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main(options: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    fuse = Fuse()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    wallet = options["wallet"]
    money = BitcoindWallet(RpcTransport(wallet[0], cookie_path=Path(wallet[1]))) if wallet else None
    with open_home(Path(options["home"]), PASSPHRASE, PartySettings(network="regtest")) as home:
        home.party._failpoint = fuse
        async with PartyServer(
            home.party,
            home.book,
            home.transport_key,
            listen=("127.0.0.1", options["port"]),
            peers=[PeerAddress.parse(text) for text in options["peers"]],
            admission=lambda key: True,
            timeout_ms=30_000,
            timing=TIMING,
            longest_pause=0.4,
        ) as server:
            program = Program(home, server, money, fuse)
            say({"address": str(server.address)})
            while line := await reader.readline():
                say(await program.answer(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
