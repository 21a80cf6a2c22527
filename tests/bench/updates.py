"""Durable state updates per second through the use case, and the CPU of one verification and of one penalty."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from domain.chain import BlockRef
from domain.channel_fold import fold
from domain.contract.commitment import contest_key
from domain.contract.keys import public_key
from domain.contract.penalty import build_penalty, sign_penalty
from domain.contract.revocation import revocation_secret
from domain.contract.scripts import funding_output
from domain.events import envelopes
from domain.transaction import Transaction
from domain.units import Side
from domain.updating import UpdateState, decide_update
from tests.bench.installation import OWNER, Installation
from tests.bench.scale import Scale
from tests.bench.scanning import timed
from tests.bench.steady import forget
from tests.support.parties import Pair, made_up_funding, make_party, open_pair
from tests.support.towers import CoinNode
from watchtower.channels.accept_state import accept_state
from watchtower.channels.reading import content_of
from watchtower.new_tower import create
from watchtower.wire.api import UpdateRequest

NAMES = ("updates_per_s_durable_1_caller", "updates_per_s_durable", "update_verify_ms", "penalty_build_sign_ms")
BLOCK = BlockRef(100, bytes(range(32)))
HEIGHT = 110


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; the log is a real file, no node is needed."""
    count = scale.update_channels + 1
    pairs = [made_pair(number, scale.updates_each) for number in range(count)]
    tower = create(directory / "tower", directory / "tower" / "config.toml", "regtest")
    node = CoinNode()
    for pair in pairs:
        node.add_coin(pair.params.funding_outpoint, pair.params.capacity, funding_output(pair.params).spk)
    with Installation(tower, node, HEIGHT) as installation:  # type: ignore[arg-type]
        streams = [installation.watch(pair, BLOCK, updates=0) for pair in pairs]
        uploads = [_uploads(installation, *each) for each in zip(streams, pairs, strict=True)]
        alone = _rate(uploads[:1])
        together = _rate(uploads[1:])
        verify = _verify(installation, pairs[0], scale.signing_runs)
    penalty = _penalty(pairs[0], scale.signing_runs)
    values = (round(alone, 1), round(together, 1), round(verify, 3), round(penalty, 3))
    return dict(zip(NAMES, values, strict=True))


def made_pair(number: int, updates: int) -> Pair:
    """A channel with so many updates, between parties whose names tell its number."""
    names = (f"alice{number}", f"bob{number}")
    pair = open_pair(made_up_funding, names=names, parties=(make_party(names[0]), make_party(names[1])))
    pair.updates(updates)
    return pair


def _uploads(installation: Installation, stream: str, pair: Pair) -> list[Callable[[], object]]:
    """One call per state, ready to be made: the request exists, verification and commit do not."""

    def upload(sequence: int) -> Callable[[], object]:
        request = pair.update_request(OWNER, sequence)
        return lambda: accept_state(installation.context, stream, request)

    return [upload(sequence) for sequence in range(1, pair.sequence + 1)]


def _rate(channels: list[list[Callable[[], object]]]) -> float:
    """Updates per second with one caller per channel; each waits for the durable answer before its next one."""

    def run(calls: list[Callable[[], object]]) -> int:
        return sum(1 for call in calls if call())

    forget()
    with ThreadPoolExecutor(len(channels)) as callers:
        began = time.perf_counter()
        stored = sum(callers.map(run, channels))
        return stored / (time.perf_counter() - began)


def _verify(installation: Installation, pair: Pair, runs: int) -> float:
    """CPU of `decide_update`, one state after the other: eight signatures, the secret, the rules. Nothing is stored."""
    stream = installation.context.channels.stream_of(pair.params.proposal_id)
    channel = installation.context.channels.load(stream)
    first = channel.sequence + 1
    pair.updates(runs)
    forget()
    took = []
    for sequence in range(first, first + runs):
        command = _command(installation, pair.update_request(OWNER, sequence))
        took += timed(partial(decide_update, channel, command), 1)
        events = decide_update(channel, command)
        channel = fold(channel, envelopes(stream, channel.version, events)) or channel
    return statistics.median(took)


def _command(installation: Installation, request: UpdateRequest) -> UpdateState:
    return UpdateState(
        now=0,
        state=content_of(request.state),
        revoked_secret=bytes(request.revoked_secret or b""),
        next_point=bytes(request.next_point or b""),
        tip_height=HEIGHT,
        confirmations_wanted=1,
        policy=installation.context.policy.state,
    )


def _penalty(pair: Pair, runs: int) -> float:
    """CPU of building and signing one penalty, without the search for the secret."""
    secret, base = pair.secret(Side.A, 0), pair.secrets(OWNER).rev
    txid, sweep = pair.commitment_txid(Side.A, 0), bytes(pair.registration(OWNER).sweep_spk)

    def answer() -> Transaction:
        key = contest_key(pair.params, Side.A, public_key(secret))
        unsigned = build_penalty(pair.params, txid, 1_000, sweep)
        return sign_penalty(pair.params, unsigned, key, revocation_secret(base, secret), bytes(32))

    return statistics.median(timed(answer, runs))
