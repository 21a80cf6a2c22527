"""What the scripts of docs/workflow.md share: where everything is, and what Alice and Bob told each other.

Alice and Bob each have a directory with a log and an encrypted keystore, and a tower of their own. Both towers watch
the same private node; in life each of them would have one of his own.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from watchtower.client import BitcoindWallet, PartyHome, StateChannelClient, StateChannelConfig, create_home, open_home
from watchtower.client.errors import TowerUnreachable
from watchtower.devnode.purse import Purse
from watchtower.node.transport import RpcTransport

FOLDER = Path("build/workflow")
PASSPHRASE = b"only for the tutorial"
NODE = "http://127.0.0.1:18443"
COOKIE = FOLDER / "node" / "regtest" / ".cookie"
TOWERS = {"alice": "http://127.0.0.1:9815", "bob": "http://127.0.0.1:9825"}
BOB_LISTENS = ("127.0.0.1", 9735)
CONFIG = StateChannelConfig(network="regtest")


def purse() -> Purse:
    """The private node seen by its miner."""
    return Purse(RpcTransport(NODE, cookie_path=COOKIE))


def wallet() -> BitcoindWallet:
    """Alice's wallet, in the node; it pays for the channel."""
    return BitcoindWallet(RpcTransport(f"{NODE}/wallet/purse", cookie_path=COOKIE))


def make_home(name: str) -> None:
    """A directory with a log and a keystore with a fresh seed; tells the key by which peers know this party."""
    # A low cost, so that scripts start fast: this passphrase is no secret anyway.
    create_home(FOLDER / name, "regtest", PASSPHRASE, cost=2**10)
    with home(name) as made:
        tell(name, key=made.transport_key.public.hex())


def home(name: str) -> PartyHome:
    """Open the directory of Alice or Bob."""
    return open_home(FOLDER / name, PASSPHRASE, CONFIG.party_settings())


def token(name: str) -> str:
    """What their tower wants to see; `watchtower init` made it."""
    return (FOLDER / f"{name}-tower" / "api.token").read_text().strip()


def tell(name: str, **facts: str) -> None:
    """Write down what this party tells the other one."""
    (FOLDER / f"{name}.json").write_text(json.dumps(told(name) | facts))


def told(name: str) -> dict[str, str]:
    """What the other party told: `key`, `address`, `pubkey`, or the `channel` that was made."""
    path = FOLDER / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


async def wait_watching(client: StateChannelClient) -> None:
    """Connect, and wait until the tower has caught up with its node: it was started a moment ago."""
    while True:
        try:
            await client.connect()
            if (await client.get_state()).watching:
                return
            await client.disconnect()
        except TowerUnreachable:
            pass
        await asyncio.sleep(0.2)
