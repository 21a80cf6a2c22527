"""Faults and attacks of clients by their ids (A5 to A12): what a flood, a thief of a key or a lost answer can do."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from statistics import median

import httpx
import pytest
from msgspec.structs import replace

from domain.events import StateUpdated
from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.towers import TOWER_ID, Bench
from watchtower.client.tower.request_signing import PartySigner
from watchtower.http.routes import Limits
from watchtower.http.services import bind
from watchtower.wire.hexes import SecretHex, to_json

JSON = {"Content-Type": "application/json"}
UNLIMITED = Limits(per_key=1e6, bytes_per_key=1e9)
"""The rates have their own tests; here they would hide what is behind them."""


@pytest.fixture
def pair() -> Pair:
    """A channel with state 0."""
    return open_pair()


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def signer(tower: Bench, secret: bytes, tower_id: bytes = TOWER_ID) -> PartySigner:
    """Signs with this key for this tower, with the tower's clock."""
    return PartySigner(secret, tower_id, now=lambda: tower.clock.wall_microseconds() / 1e6)


def signing(tower: Bench, secret: bytes, tower_id: bytes = TOWER_ID) -> httpx.AsyncClient:
    """A party without a token."""
    auth = signer(tower, secret, tower_id)
    return httpx.AsyncClient(transport=tower.transport(), base_url="http://tower", auth=auth, headers=JSON)


def owner_of(tower: Bench, pair: Pair) -> httpx.AsyncClient:
    """B, or whoever has its key."""
    return signing(tower, pair.secrets(Side.B).auth)


# ── A5: replay ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_fault_A5_a_recorded_request(tower: Bench, pair: Pair) -> None:
    """The same bytes again, at another tower, and after 61 seconds: 401 each time, and the channel stays as it was."""
    name = tower.registered(pair)
    request = httpx.Request("GET", f"http://tower/v1/channels/{name}")
    later = httpx.Request("GET", f"http://tower/v1/channels/{name}")
    auth = signer(tower, pair.secrets(Side.B).auth)
    auth.sign(request)
    auth.sign(later)
    before = tower.store.last_id()
    async with httpx.AsyncClient(transport=tower.transport()) as http:
        answers = [await http.send(request), await http.send(request)]
        tower.clock.forward(61.0)
        answers.append(await http.send(later))
    async with signing(tower, pair.secrets(Side.B).auth, sha256(b"another tower").digest()) as http:
        answers.append(await http.get(f"/v1/channels/{name}"))

    assert [200, 401, 401, 401] == [answer.status_code for answer in answers]
    assert str(int(tower.clock.wall_microseconds() / 1e6)) in str(answers[2].json()["time"])
    assert before == tower.store.last_id()


# ── A6: lost answers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.asyncio
async def test_fault_A6_a_thousand_uploads_in_any_order(tower: Bench, pair: Pair) -> None:
    """Answers are lost, uploads repeated and shuffled: each state is stored once, each answer to it is the same."""
    name = tower.registered(pair)
    pair.updates(5)
    bodies = [to_json(pair.update_request(Side.B, number)) for number in range(1, 6)]
    order = [number for number in range(5) for _ in range(200)]
    random.Random(4).shuffle(order)
    answers: dict[int, set[bytes]] = {}
    refused: Counter[int] = Counter()
    async with tower.http() as http:
        for number in order:
            answer = await http.post(f"/v1/channels/{name}/states", content=bodies[number], headers=JSON)
            if answer.is_success:
                answers.setdefault(number, set()).add(answer.content)
            else:
                refused[answer.status_code] += 1
    stored = [
        recorded.envelope.payload.sequence
        for recorded in tower.store.read_log(0, 1_000)
        if isinstance(recorded.envelope.payload, StateUpdated)
    ]

    assert [0, 1, 2, 3, 4, 5] == stored
    assert dict.fromkeys(range(5), 1) == {number: len(found) for number, found in answers.items()}
    assert {409} >= set(refused)


# ── A7: floods ───────────────────────────────────────────────────────────────────────────────────────────


def memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.asyncio
async def test_fault_A7_a_key_that_fills_the_disk(tower: Bench, pair: Pair) -> None:
    """Bytes of a party have a rate of their own: beyond it 429, and an operator's token is not meant."""
    tower.limits = Limits(bytes_per_key=1_000.0)
    name = tower.registered(pair)
    pair.updates(1)
    body = to_json(pair.update_request(Side.B, 1)) + b" " * 25_000
    path = f"/v1/channels/{name}/states"
    async with owner_of(tower, pair) as greedy:
        statuses = [(await greedy.post(path, content=body)).status_code for _ in range(4)]
        read = await greedy.get(f"/v1/channels/{name}")
    async with tower.http() as operator:
        stored = await operator.post(path, content=body, headers=JSON)

    assert [200, 200, 429, 429] == statuses
    assert [200, 200] == [read.status_code, stored.status_code]


class Flood:
    """Registrations that cost the sender nothing: garbage, made-up keys, channels without coins, broken signatures."""

    def __init__(self, tower: Bench) -> None:
        self._tower = tower
        self._http = httpx.AsyncClient(transport=tower.transport(), base_url="http://tower", headers=JSON)
        self._keys = (sha256(b"flood %d" % number).digest() for number in itertools.count())
        foreign = open_pair(names=("mallory", "trudy"))
        whole, own = foreign.registration(Side.B), foreign.secrets(Side.B).auth
        body, forged = to_json(whole), to_json(replace(whole, upload_sig=type(whole.upload_sig)(bytes(64))))
        self._kinds: tuple[Callable[[], tuple[bytes | None, bytes]], ...] = (
            *[
                lambda: (None, body),
                lambda: (next(self._keys), body),
                lambda: (next(self._keys), b'{"params": ["' + b"x" * 5_000),
            ]
            * 3,
            lambda: (own, body),
            lambda: (own, forged),
        )

    async def send(self, count: int) -> Counter[int]:
        """So many registrations; returns how often each status came back."""
        seen: Counter[int] = Counter()
        for number in range(count):
            self._tower.clock.forward(0.05)
            key, body = self._kinds[number % len(self._kinds)]()
            auth = None if key is None else signer(self._tower, key)
            seen[(await self._http.post("/v1/channels", content=body, auth=auth)).status_code] += 1
        return seen


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_fault_A7_ten_thousand_registrations(tower: Bench, pair: Pair) -> None:
    """Everybody may register: memory stays flat, nothing is stored, and who has a channel is served in between."""
    anybody = replace(tower.context, may_register=lambda _key: True)
    tower.services = bind(anybody, lambda: tower.standing, version="1", network="regtest", tower_id=TOWER_ID)
    tower.limits = UNLIMITED
    name = tower.registered(pair)
    flood, stored = Flood(tower), tower.store.last_id()
    await flood.send(2_000)
    before, seen, served = memory(), Counter[int](), []
    async with owner_of(tower, pair) as owner:
        for _ in range(16):
            seen += await flood.send(500)
            served.append((await owner.get(f"/v1/channels/{name}")).status_code)
    grown = memory() - before

    assert {400, 401, 403, 422} == set(seen)
    assert [200] * 16 == served
    assert stored == tower.store.last_id()
    assert grown < 8 * 2**20  # points of keys are kept, whoever sent them: 8,192 at most


# ── A11: enumeration ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.asyncio
async def test_fault_A11_a_foreign_channel_looks_like_none(tower: Bench, pair: Pair) -> None:
    """The same bytes for about the same work, although the foreign channel has a long history.

    CPU time is measured: that of the clock is also the time of other programs.
    """
    tower.limits = UNLIMITED
    foreign = [tower.registered(pair), pair.params.proposal_id.hex()]
    pair.updates(60)
    for number in range(1, 61):
        tower.services.accept_state(foreign[0], pair.update_request(Side.B, number))
    tower.catch_up()
    names = {"foreign": foreign[0], "proposal": foreign[1], "unknown": sha256(b"nothing").hexdigest()}
    seconds: dict[str, list[float]] = {kind: [] for kind in names}
    bodies = set()
    async with signing(tower, sha256(b"a stranger").digest()) as http:
        for _ in range(60):
            for kind, name in names.items():
                tower.clock.forward(1.0)
                began = time.process_time()
                answer = await http.get(f"/v1/channels/{name}")
                seconds[kind].append(time.process_time() - began)
                named = answer.json()["request_id"].encode()
                bodies.add((answer.status_code, answer.content.replace(named, b"(request)")))
    typical = {kind: median(found) for kind, found in seconds.items()}

    assert 1 == len(bodies)
    assert max(typical.values()) < 2 * min(typical.values())


# ── A12: a stolen key ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_fault_A12_a_stolen_key_takes_nothing_away(tower: Bench, pair: Pair) -> None:
    """The thief of a request key repeats, lowers, replaces, forges and deletes in vain; only the next state goes in."""
    name = tower.registered(pair)
    pair.updates(3)
    states = f"/v1/channels/{name}/states"
    async with owner_of(tower, pair) as thief:
        for number in (1, 2):
            await thief.post(states, content=to_json(pair.update_request(Side.B, number)))
        before = tower.store.last_id()
        following = pair.update_request(Side.B, 3)
        refused = (
            pair.update_request(Side.B, 1),
            pair.forged_update(Side.B, (999_000, 1_000), sequence=1),
            replace(following, revoked_secret=SecretHex(sha256(b"guess").digest())),
            replace(following, state=pair.registration(Side.B).state),
        )
        answers = [(await thief.post(states, content=to_json(body))).status_code for body in refused]
        gone = [
            (await thief.request(method, f"/v1/channels/{name}")).status_code for method in ("DELETE", "PUT", "PATCH")
        ]
        unchanged = tower.store.read_log(before, 100)
        higher = await thief.post(states, content=to_json(following))

    assert [200, 409, 422, 409] == answers
    assert [405] * 3 == gone
    assert {"EquivocationFound", "AlertRaised"} >= {type(event.envelope.payload).__name__ for event in unchanged}
    assert (200, 3) == (higher.status_code, higher.json()["sequence"])
