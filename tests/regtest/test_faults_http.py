"""The service as a real process under attack by its clients, and back after its death."""

from __future__ import annotations

import threading
import time
from collections import Counter
from hashlib import sha256

import httpx

from domain.contract import keys
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.test_node_adapter import rpcauth
from tests.regtest.test_service_faults import ask, protected
from tests.support.parties import open_pair
from tests.support.service import Run, ServiceProcess
from tests.support.tries import least
from watchtower.client.tower.request_signing import PartySigner
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.ports import ALLOWED_METHODS
from watchtower.wire.hexes import to_json

CHANNELS = 50


class Flood:
    """Clients in threads that send what they can: registrations by made-up keys, garbage, questions without a key."""

    def __init__(self, service: ServiceProcess, tower_id: bytes, threads: int = 3) -> None:
        self._url = f"http://{service.address('api')}"
        self._tower_id = tower_id
        self._body = to_json(open_pair(names=("mallory", "trudy")).registration(Side.B))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(threads)]
        self.seen: Counter[int] = Counter()
        self.flowing = threading.Event()

    def __enter__(self) -> Flood:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        headers = {"Content-Type": "application/json"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=60) as http:
            for turn in range(10**9):
                if self._stopping.is_set():
                    return
                key = PartySigner(sha256(b"%d %d" % (number, turn)).digest(), self._tower_id)
                kinds: tuple[tuple[PartySigner | None, bytes], ...] = (
                    (key, self._body),
                    (key, b"[" * 5_000),
                    (None, b""),
                )
                auth, body = kinds[turn % 3]
                self.seen[http.post("/v1/channels", content=body, auth=auth).status_code] += 1
                if turn == 20:
                    self.flowing.set()


def tower_id(made: NewTower) -> bytes:
    """The tower's x-only key."""
    secret = bytes.fromhex((made.config_path.parent / "tower.key").read_text().strip())
    return keys.xonly(keys.public_key(secret))


def test_fault_A7_flood_during_a_breach(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """Three clients flood the API while a breach is mined: the penalty is in the mempool within five seconds."""
    service = run(tower.config_path)
    service.wait_watching()
    pairs = [protected(node, service, tower)]

    def answered() -> float:
        pair = pairs.pop() if pairs else protected(node, service, tower, ("carol", f"dave {time.monotonic_ns()}"))
        stale = pair.commitment(Side.A, 1)
        began = time.monotonic()
        node.generate_block([stale])
        node.wait_spender(bytes(Transaction.parse(stale).txid) + bytes(4))
        return time.monotonic() - began

    with Flood(service, tower_id(tower)) as flood:
        assert flood.flowing.wait(60)
        seconds = least(answered, 5.0)
    ready = service.ready()

    assert {400, 401, 403} == set(flood.seen)
    assert seconds < 5.0
    assert ready["watching"]


def test_a_killed_tower_with_fifty_channels_watches_within_seconds(
    node: RegtestNode, tower: NewTower, run: Run
) -> None:
    """SIGKILL, and from the start of the next process until it watches: five seconds at most; nothing is missing."""
    began = time.monotonic()
    first = run(tower.config_path)
    first.wait_watching()
    alone = time.monotonic() - began
    for number in range(CHANNELS):
        register(first, tower, node, number)
    node.mine(1)
    for _ in range(CHANNELS):
        first.wait_for("funding_confirmed")
    running = [first]

    def watches_again() -> float:
        running[-1].kill()
        begun = time.monotonic()
        running.append(run(tower.config_path))
        running[-1].wait_watching()
        return time.monotonic() - begun

    limit = max(5.0, 3 * alone)  # a machine that is slow by itself is no finding
    seconds = least(watches_again, limit)

    assert f"watchtower_watched_outpoints {CHANNELS}.0" in running[-1].get("admin", "/metrics")[1].decode()
    assert seconds < limit


def register(service: ServiceProcess, made: NewTower, node: RegtestNode, number: int) -> None:
    """One more channel, with its funding in the mempool."""
    names = (f"alice {number}", f"bob {number}")
    pair = open_pair(lambda spk, amount: node.fund(spk, amount, broadcast=False), names=names)
    ask(service, made, "", pair.registration(Side.B))
    node.send_raw(pair.funding.raw)


def test_fault_A14_no_other_method_is_allowed(start_node: StartNode) -> None:
    """With the tower's credential the node answers 403 to every method that is not on the list, wallets included."""
    allowed = f"-rpcwhitelist=tower:{','.join(ALLOWED_METHODS)}"
    node = start_node(extra_args=[f"-rpcauth={rpcauth('tower', 'leaked')}", allowed, "-rpcwhitelistdefault=0"])
    methods = {line.split()[0] for line in str(node.rpc("help")).splitlines() if line and not line.startswith("==")}
    others = sorted(methods - set(ALLOWED_METHODS))
    with httpx.Client(base_url=node.rpc_url, auth=("tower", "leaked"), timeout=60) as thief:
        statuses = {name: thief.post("/", json={"method": name, "params": []}).status_code for name in others}

    assert {"sendtoaddress", "dumpwallet", "stop", "invalidateblock", "addnode"} & methods <= set(statuses)
    assert len(others) > 50
    assert {403} == set(statuses.values())
