"""What the examples of the tutorial share: a node seen by a miner, two parties, and the client of Bob's tower.

Everything lives below build/tutorial. Both parties keep a log and a keystore there, so each script goes on where the
one before ended. All settings come from the tower's configuration: `--config` of the tower and
STATE_CHANNEL_CONFIG of the scripts name the same file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import zmq

from domain.chain import display, from_display, make_outpoint
from domain.errors import DomainError
from watchtower.client import ChannelParty, PartySettings, StateChannelClient, StateChannelConfig
from watchtower.client.errors import StateChannelError
from watchtower.client.party.home import create_home, open_home
from watchtower.config import Settings, load
from watchtower.devnode.purse import Purse
from watchtower.node.transport import RpcTransport
from watchtower.ports import WatchtowerError

FOLDER = Path("build/tutorial")
PASSPHRASE = b"only for the tutorial"


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A refusal is one line; anything else is a fault and keeps its traceback."""
    if isinstance(error, DomainError | StateChannelError | WatchtowerError):
        sys.stderr.write(f"{kind.__name__}: {error}\n")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell


def settings() -> Settings:
    """The settings of Bob's tower."""
    if "STATE_CHANNEL_CONFIG" not in os.environ:
        raise SystemExit("first: export STATE_CHANNEL_CONFIG=build/tutorial/tower/config.toml (step 2 of the tutorial)")
    return load(os.environ).settings


def node() -> Purse:
    """The private node with its wallet and full rights: who mines and who cheats, never the tower."""
    cookie = FOLDER / "node" / "regtest" / ".cookie"
    return Purse(RpcTransport(settings().node.rpc_url, cookie_path=cookie))


def make_parties() -> None:
    """A log, a keystore and a fresh seed for each. Alice keeps her seed outside the keystore as well: to cheat."""
    for name in ("alice", "bob"):
        seed = os.urandom(32)
        # A low cost, so that scripts start fast: this passphrase is no secret anyway.
        create_home(FOLDER / name, "regtest", PASSPHRASE, seed=seed, cost=2**10)
        if name == "alice":
            (FOLDER / "alice" / "seed").write_bytes(seed)


@contextmanager
def party(name: str) -> Iterator[ChannelParty]:
    """Alice or Bob, from the log on disk."""
    with open_home(FOLDER / name, PASSPHRASE, PartySettings(network="regtest")) as home:
        yield home.party


def client(owner: ChannelParty | None = None) -> StateChannelClient:
    """The client of Bob's tower."""
    token = Path(settings().data_dir, "api.token").read_text().strip()
    url = f"http://{settings().api.listen}"
    return StateChannelClient(StateChannelConfig(network="regtest"), url=url, token=token, party=owner)


def channel_id() -> bytes:
    """The channel that was opened last."""
    return bytes.fromhex((FOLDER / "channel").read_text())


def remember_channel(name: bytes) -> None:
    """Write down the channel that was opened."""
    (FOLDER / "channel").write_text(name.hex())


def remember_commitment(txid: bytes) -> None:
    """Write down the commitment that was published."""
    (FOLDER / "commitment").write_text(display(txid))


def contest_outpoint() -> bytes:
    """Output 0 of the commitment that was published last: all the money of the channel."""
    return make_outpoint(from_display((FOLDER / "commitment").read_text()), 0)


def wait_for_spender(outpoint: bytes, seconds: int = 60) -> bytes:
    """The txid that spends an output, in the mempool or in a block; looks again at each message of the node."""
    with zmq.Context() as context, context.socket(zmq.SUB) as bell:
        bell.setsockopt(zmq.SUBSCRIBE, b"")
        bell.connect(settings().node.zmq_rawtx)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if txid := node().spender(outpoint):
                return txid
            if bell.poll(250):
                bell.recv_multipart()
    raise SystemExit(f"nobody spent {display(outpoint[:32])}:0 within {seconds} s; is the tower running?")
