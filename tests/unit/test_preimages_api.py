"""Preimages and the HTLC key over the API: taken once, checked, handed out, never shown where they do not belong."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain.claiming import htlc_key_name
from domain.contract.hashes import sha256
from domain.errors import InvalidSecret
from domain.events import PreimageLearned, Source, envelopes
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair, preimage_of
from tests.support.towers import Bench
from watchtower.channels.preimages import add_preimage
from watchtower.models import LiveModels
from watchtower.wire.api import RegisterRequest
from watchtower.wire.conditions import PreimageRequest
from watchtower.wire.hexes import SecretHex

EXPIRY = 10_000


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower without a node's chain."""
    return Bench(tmp_path)


def with_htlcs(tower: Bench) -> tuple[Pair, str]:
    """B's channel with an incoming HTLC 1 and an outgoing HTLC 2 in its stored state."""
    pair = open_pair()
    channel_id = tower.registered(pair)
    sequence = pair.with_htlcs(htlc(Side.A, 1, 20_000, EXPIRY), htlc(Side.B, 2, 30_000, EXPIRY))
    tower.services.accept_state(channel_id, pair.update_request(Side.B, sequence))
    tower.catch_up()
    return pair, channel_id


def stored(tower: Bench, pair: Pair) -> list[PreimageLearned]:
    """Preimages in the channel's log."""
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    payloads = (event.payload for event in tower.store.read_stream(stream))
    return [payload for payload in payloads if isinstance(payload, PreimageLearned)]


# ── preimages ────────────────────────────────────────────────────────────────────────────────────────────


async def post(tower: Bench, channel_id: str, preimage: str) -> tuple[int, dict[str, object], bool]:
    """Status, body, and whether the answer is a repetition."""
    async with tower.http() as http:
        answer = await http.post(f"/v1/channels/{channel_id}/preimages", json={"preimage": preimage})
    return answer.status_code, answer.json(), "Idempotency-Replayed" in answer.headers


@pytest.mark.asyncio
async def test_a_preimage_is_stored_once(tower: Bench) -> None:
    """The same answer twice; one event, source UPLOAD, without a transaction; the chain task is woken once."""
    pair, channel_id = with_htlcs(tower)
    tower.announced.clear()

    first = await post(tower, channel_id, preimage_of(1).hex())
    again = await post(tower, channel_id, preimage_of(1).hex())

    assert (200, False, 200, True) == (first[0], first[2], again[0], again[2])
    assert first[1] == again[1] == {"channel_id": channel_id, "payment_hash": htlc(Side.A, 1, 1, 1).hash.hex()}
    assert [(preimage_of(1), Source.UPLOAD, None)] == [(e.preimage, e.source, e.txid) for e in stored(tower, pair)]
    assert 1 == len(tower.announced)


@pytest.mark.asyncio
async def test_a_preimage_of_no_htlc_is_refused_without_repeating_it(tower: Bench) -> None:
    """It opens nothing here: 422, nothing stored, its digits are nowhere in the answer."""
    pair, channel_id = with_htlcs(tower)

    status, body, _ = await post(tower, channel_id, "ab" * 32)

    assert (422, "urn:state-channel:invalid-secret") == (status, body["type"])
    assert "ab" * 8 not in str(body)  # a shorter run may be in the random id of the request
    assert [] == stored(tower, pair)


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["", "00", "00" * 31, "00" * 33, "zz" * 32])
async def test_a_preimage_has_32_bytes(tower: Bench, text: str) -> None:
    """Everything else cannot be read."""
    _, channel_id = with_htlcs(tower)

    status, body, _ = await post(tower, channel_id, text)

    assert (400, "urn:state-channel:malformed") == (status, body["type"])


@pytest.mark.asyncio
async def test_known_and_missing_preimages_are_listed(tower: Bench) -> None:
    """The incoming HTLC is missing until its preimage comes; the outgoing one is the counterparty's business."""
    _, channel_id = with_htlcs(tower)
    incoming = htlc(Side.A, 1, 1, 1).hash.hex()
    async with tower.http() as http:
        before = (await http.get(f"/v1/channels/{channel_id}/preimages")).json()
        await http.post(f"/v1/channels/{channel_id}/preimages", json={"preimage": preimage_of(1).hex()})
        after = (await http.get(f"/v1/channels/{channel_id}/preimages")).json()

    found = [{"payment_hash": incoming, "preimage": preimage_of(1).hex(), "public": False}]
    assert {"channel_id": channel_id, "preimages": [], "missing": [incoming]} == before
    assert {"channel_id": channel_id, "preimages": found, "missing": []} == after


def test_a_preimage_is_stored_for_each_channel_that_it_is_handed_over_for(tmp_path: Path) -> None:
    """Two channels with one payment hash: the second one may belong to somebody else, so it gets its own record."""
    tower = Bench(tmp_path)
    pair, channel_id = with_htlcs(tower)
    twin = open_pair(names=("carol", "bob2"))
    twin_id = tower.registered(twin)
    sequence = twin.with_htlcs(htlc(Side.B, 1, 20_000, EXPIRY))
    tower.services.accept_state(twin_id, twin.update_request(Side.B, sequence))
    request = PreimageRequest(preimage=SecretHex(preimage_of(1)))

    tower.services.preimages.add(twin_id, request)
    tower.catch_up()
    first = tower.services.preimages.add(channel_id, request).duplicate
    again = tower.services.preimages.add(channel_id, request).duplicate

    assert (False, True) == (first, again)
    assert (1, 1) == (len(stored(tower, pair)), len(stored(tower, twin)))
    assert [preimage_of(1)] == [bytes(p.preimage) for p in tower.services.preimages.get(channel_id, False).preimages]


def test_where_strangers_register_a_private_preimage_stays_in_its_channel(tmp_path: Path) -> None:
    """A claim publishes the preimage: one that only its own channel knows must not be used in a stranger's."""
    tower = Bench(tmp_path)
    _, channel_id = with_htlcs(tower)
    payment_hash = htlc(Side.A, 1, 1, 1).hash
    tower.services.preimages.add(channel_id, PreimageRequest(preimage=SecretHex(preimage_of(1))))
    tower.catch_up()
    channels = tower.context.channels

    shared = LiveModels(tower.projector, tower.rows, channels).preimage(payment_hash)
    apart = LiveModels(tower.projector, tower.rows, channels, one_owner=False).preimage(payment_hash)

    assert (preimage_of(1), None) == (shared, apart)


def test_a_stranger_does_not_get_a_preimage_by_its_hash(tower: Bench) -> None:
    """A party that puts another's payment hash into its own channel is told the preimage once it is public."""
    pair, _ = with_htlcs(tower)
    spy = open_pair(names=("carol", "dave"))
    spy_id = tower.registered(spy)
    sequence = spy.with_htlcs(htlc(Side.A, 1, 20_000, EXPIRY))
    tower.services.accept_state(spy_id, spy.update_request(Side.B, sequence))
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    add_preimage(tower.context, stream, PreimageRequest(preimage=SecretHex(preimage_of(1))))
    tower.catch_up()
    before = tower.services.preimages.get(spy_id, True)
    to_operator = tower.services.preimages.get(spy_id, False)
    version = tower.store.version(stream)
    shown = PreimageLearned(
        recorded_at=0,
        payment_hash=sha256(preimage_of(1)),
        preimage=preimage_of(1),
        source=Source.MEMPOOL,
        txid=bytes(32),
    )
    tower.store.append(envelopes(stream, version, [shown]))
    tower.catch_up()

    assert () == before.preimages
    assert 1 == len(to_operator.preimages)
    assert [preimage_of(1)] == [bytes(each.preimage) for each in tower.services.preimages.get(spy_id, True).preimages]
    assert 1 == len(tower.services.preimages.get(pair.channel_id.hex(), True).preimages)


def test_an_older_state_takes_no_preimage(tower: Bench) -> None:
    """Two updates later the HTLC is gone from every publishable state."""
    pair, channel_id = with_htlcs(tower)
    for _ in range(2):
        tower.services.accept_state(channel_id, pair.update_request(Side.B, pair.update((500_000, 500_000))))
    stream = tower.context.channels.stream_of(pair.params.proposal_id)

    with pytest.raises(InvalidSecret):
        add_preimage(tower.context, stream, PreimageRequest(preimage=SecretHex(preimage_of(1))))


# ── the HTLC key ─────────────────────────────────────────────────────────────────────────────────────────


def bare(request: RegisterRequest) -> RegisterRequest:
    """The registration of an older client."""
    return msgspec.structs.replace(request, htlc_secret=None)


def test_the_htlc_key_is_kept_before_the_registration(tower: Bench) -> None:
    """Under a name of its own, beside the revocation key; the log does not hold it."""
    pair = open_pair()
    tower.registered(pair)
    secret = pair.secrets(Side.B).htlc

    assert secret == tower.keystore.get(htlc_key_name(pair.params.proposal_id))
    assert pair.secrets(Side.B).rev == tower.keystore.get(pair.params.proposal_id)
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    assert all(secret not in msgspec.msgpack.encode(e.payload) for e in tower.store.read_stream(stream))


def test_an_identical_registration_adds_the_htlc_key(tower: Bench) -> None:
    """The signed upload does not contain it: no new event, and the chain task looks at once."""
    pair = open_pair()
    tower.fund(pair)
    complete = pair.registration(Side.B)
    tower.services.register(bare(complete))
    missing = tower.keystore.get(htlc_key_name(pair.params.proposal_id))
    events = tower.store.last_id()
    tower.announced.clear()

    done = [tower.services.register(complete).created for _ in range(2)]

    assert (None, [False, False]) == (missing, done)
    assert pair.secrets(Side.B).htlc == tower.keystore.get(htlc_key_name(pair.params.proposal_id))
    assert (events, 1) == (tower.store.last_id(), len(tower.announced))


@pytest.mark.parametrize("wrong", [bytes(32), b"\xff" * 32, b"\x05" * 32])
def test_a_foreign_htlc_key_is_refused(tower: Bench, wrong: bytes) -> None:
    """It could sign nothing; neither key is kept, and its digits are not repeated."""
    pair = open_pair()
    tower.fund(pair)
    request = msgspec.structs.replace(pair.registration(Side.B), htlc_secret=SecretHex(wrong))

    with pytest.raises(InvalidSecret, match="htlc_secret is not the secret") as refusal:
        tower.services.register(request)

    assert wrong.hex()[:8] not in str(refusal.value)
    assert tower.keystore.get(pair.params.proposal_id) is None


def test_the_bodies_do_not_show_their_secrets() -> None:
    """Neither the registration nor an uploaded preimage."""
    pair = open_pair()
    shown = repr(pair.registration(Side.B)) + repr(PreimageRequest(preimage=SecretHex(preimage_of(1))))

    hidden = (pair.secrets(Side.B).htlc, pair.secrets(Side.B).rev, preimage_of(1))
    assert [False] * 6 == [form in shown for secret in hidden for form in (secret.hex(), repr(bytes(secret))[2:-1])]
