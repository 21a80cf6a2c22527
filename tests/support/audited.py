"""Logs for the rules of the audit: honest ones of every kind of story, and the same with one field changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from domain.claiming import WantedClaim, build_claim, claim_prepared, claim_script, sign_claim, wanted_claims
from domain.contract.params import TAPROOT
from domain.contract.proofs import (
    encode_counter_proof,
    encode_evidence,
    encode_evidence_proof,
    encode_secret_proof,
)
from domain.disputing import ShowProof, decide_answer, decide_challenge
from domain.events import Envelope, Payload, Recorded
from domain.punishing import penalty_prepared
from domain.settling import ready_settlement, settle_prepared
from domain.transaction import Transaction
from domain.units import Side
from domain.updating import decide_update
from tests.fakes.store import MemoryEventStore
from tests.support import htlcs
from tests.support.parties import htlc, make_party, open_pair, settings_of
from tests.support.scenes import AUX, NOW, Scene, block, funded, secrets_of, unfunded_params
from tests.support.small_world import SmallWorld
from watchtower.audit.findings import Finding
from watchtower.audit.rules import rules_for
from watchtower.store.source import SourceMeta

LOG = SourceMeta(
    log_id=bytes(16), origin="test/log", segment=0, first_leaf=0, first_id=1, prev_head=bytes(32), schema=1
)


def recorded(events: Sequence[Envelope]) -> list[Recorded]:
    """Events with ids from 1."""
    return [Recorded(number, event) for number, event in enumerate(events, start=1)]


def ruled(events: Sequence[Recorded], *, signatures: bool = True, tower_key: bytes | None = None) -> list[Finding]:
    """What all rules find, in one share."""
    found = []
    for rules in rules_for(signatures=signatures, tower_key=tower_key):
        check = rules.start(LOG)
        found += [*check.page(events), *check.end()]
    return sorted(found, key=lambda finding: finding.position or 0)


def counted_in(events: Sequence[Recorded], *, signatures: bool = True) -> dict[str, int]:
    """How much all rules computed again."""
    counted: dict[str, int] = {}
    for rules in rules_for(signatures=signatures):
        check = rules.start(LOG)
        list(check.page(events))
        counted |= check.counted
    return counted


def forged(events: Sequence[Recorded], place: int, **changed: object) -> list[Recorded]:
    """The same log with other values in one event; `place` counts from 0."""
    return with_payload(events, place, msgspec.structs.replace(events[place].envelope.payload, **changed))


def with_payload(events: Sequence[Recorded], place: int, payload: Payload) -> list[Recorded]:
    """The same log with another payload in one event."""
    old = events[place]
    envelope = Envelope(old.envelope.stream, old.envelope.version, payload.TOPIC, payload)
    return [*events[:place], Recorded(old.id, envelope), *events[place + 1 :]]


def without(events: Sequence[Recorded], place: int) -> list[Recorded]:
    """The same log as if one event had never been written."""
    gone, kept = events[place].envelope, []
    for each in [*events[:place], *events[place + 1 :]]:
        event = each.envelope
        later = event.stream == gone.stream and event.version > gone.version
        kept.append(Envelope(event.stream, event.version - later, event.topic, event.payload))
    return recorded(kept)


def place_of(events: Sequence[Recorded], kind: type[Payload], number: int = 0) -> int:
    """Where the event of a kind stands, from 0; `number` is which of them."""
    return [place for place, each in enumerate(events) if isinstance(each.envelope.payload, kind)][number]


def payload_of(events: Sequence[Recorded], kind: type[Payload], number: int = 0) -> Payload:
    """The event of a kind."""
    return events[place_of(events, kind, number)].envelope.payload


@cache
def punished() -> list[Recorded]:
    """A tower's log: a breach is punished, a reorg takes funding, breach and penalty away, all come again."""
    world = SmallWorld()
    world.open()
    world.chain.send(world.pool.commitments[2])
    world.look()
    world.chain.mine_many(1)
    world.look()
    world.chain.mine_many(1)
    world.look()
    world.chain.reorg(3)
    world.look()
    for _ in range(2):
        world.chain.mine_many(1)
        world.look()
    for _ in range(6):
        world.chain.mine_many(20)
        world.look()
    return world.store.read_log(0, 100_000)


@cache
def settled() -> list[Recorded]:
    """A tower's log: the counterparty closes with the newest state, the tower settles; a reorg takes that away."""
    world = SmallWorld()
    world.open()
    world.chain.mine([world.pool.commitments[4]])
    world.look()
    for _ in range(world.pool.period + 1):
        world.chain.mine_many(1)
        world.look()
    world.chain.reorg(2)
    world.look()
    for _ in range(6):
        world.chain.mine_many(20)
        world.look()
    return world.store.read_log(0, 100_000)


@cache
def claimed() -> list[Recorded]:
    """A channel with HTLCs that B closed: settlement, a claim by preimage and a refund by the tower, a third one."""
    scene = htlcs.closed(Side.A)
    close = scene.channel.confirmed_spend
    assert close is not None
    plan = ready_settlement(scene.channel, close)
    assert plan is not None
    scene.then(settle_prepared(scene.channel, plan, NOW))
    scene.ended(scene.commitment(Side.B, 2), scene.settlement(Side.B, 2), block(htlcs.SETTLED_AT))
    known = {htlcs.BACK.hash: htlcs.BACK_PREIMAGE}
    outputs = htlcs.outputs(scene)
    for wanted in wanted_claims(scene.channel, outputs, known.get, htlcs.EXPIRY):
        scene.then(claim_prepared(wanted, _signed(scene, wanted), 500, NOW))
    return recorded(scene.events)


def _signed(scene: Scene, wanted: WantedClaim) -> Transaction:
    tx = build_claim(scene.params, wanted, 500, claim_script(scene.channel))
    return sign_claim(scene.params, wanted, tx, secrets_of(scene.own).htlc, AUX)


@cache
def disputed() -> list[Recorded]:
    """A tower that lacks states: the counterparty's secret and evidence of a newer state are shown, and answered."""
    scene = Scene(Side.A).opened(1)
    commit = scene.commitment(Side.B, 3)
    scene.seen(commit)
    newer, newest = (
        encode_evidence(state.header, state.sigs_a.state, state.sigs_b.state) for state in map(scene.state, (4, 5))
    )
    evidence = encode_evidence_proof(scene.params.channel_id, 3, Side.B, commit.txid, newer)
    scene.then(decide_challenge(scene.channel, ShowProof(NOW, 3, evidence, commit, 200)))
    counter = encode_counter_proof(scene.params.channel_id, commit.txid, 3, newest)
    scene.then(decide_answer(scene.channel, counter, 200, NOW)[0])
    secret = encode_secret_proof(scene.params.channel_id, 3, Side.B, commit.txid, scene.secret(Side.B, 3))
    scene.then(decide_challenge(scene.channel, ShowProof(NOW, 3, secret, commit, 200)))
    return recorded(scene.events)


@cache
def cut_short() -> list[Recorded]:
    """A tower's log: the counterparty publishes what it did not complete, and the owner brings the state then."""
    scene = Scene(Side.A).opened(1)
    scene.mined(scene.commitment(Side.B, 2), block(200))
    scene.then(decide_update(scene.channel, scene.update_in_flight(2, scene.cut_short(2))))
    return recorded(scene.events)


@cache
def updated(profile: int = TAPROOT) -> list[Recorded]:
    """A registration and two updates, then a breach with a first bid and a higher one."""
    params = funded(msgspec.structs.replace(unfunded_params(), profile=profile))
    scene = Scene(Side.A, params=params).opened(2)
    scene.mined(scene.commitment(Side.B, 1), block(120))
    for fee in (1_000, 2_000):
        tx = scene.penalty(Side.B, 1, fee)
        breach = scene.channel.confirmed_spend
        assert breach is not None
        prepared = penalty_prepared(scene.channel, breach, txid=tx.txid, raw=tx.serialize(), fee=fee, left=100, now=NOW)
        scene.then(prepared)
    return recorded(scene.events)


@cache
def of_party(profile: int = TAPROOT) -> list[Recorded]:
    """The log of a party: opening, updates of both sides with an HTLC, a close that both signed."""
    store, settings = MemoryEventStore(), settings_of(profile)
    parties = make_party("alice", store=store, settings=settings), make_party("bob", settings=settings)
    pair = open_pair(parties=parties, profile=profile)
    pair.updates(3)
    pair.with_htlcs(htlc(Side.A, 1, 10_000, 500))
    pair.update((pair.balances[Side.A], 1_000_000 - pair.balances[Side.A]))
    pair.close(Side.A)
    return store.read_log(0, 10_000)
