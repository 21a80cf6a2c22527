"""What a tower signs: the place of the event, the hash of the upload, the same bytes again, and nothing in doubt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from domain.contract.receipt_proofs import NOTHING, ReceiptAnswer, ReceiptVerdict, judge_receipt, read_answer
from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import Equivocation, InvalidSignature, LogCorrupt, MalformedInput, UnknownState
from domain.events import LOG_STREAM, StateRevoked, StateUpdated, StoreRestored, envelopes
from domain.log_chain import leaf
from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.stores import new_log
from tests.support.towers import TIP, TOWER_ID, TOWER_KEY, Bench
from watchtower.channels import receipts as receipts_of_channels
from watchtower.channels.accept_state import accept_state
from watchtower.channels.receipts import ReceiptsSuspended, check, reissue
from watchtower.channels.register import register
from watchtower.channels.revoke import revoke
from watchtower.receipts.signer import Epochs, ReceiptSigner
from watchtower.receipts.tower_key import TowerKey, TowerKeyMissing, read_tower_key
from watchtower.store.create import open_store
from watchtower.store.sqlite_source import SqliteSource
from watchtower.wire.api import UpdateRequest
from watchtower.wire.deposits import sha256_of_registration, sha256_of_update
from watchtower.wire.hexes import to_json
from watchtower.wire.receipts import SignedReceiptBody, body_of


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower over a log in memory."""
    return Bench(tmp_path)


@pytest.fixture
def pair() -> Pair:
    """A channel with three states."""
    made = open_pair()
    made.updates(3)
    return made


def told(body: SignedReceiptBody | None) -> SignedReceipt:
    """The receipt of an answer."""
    assert body is not None
    return body.signed()


def upload(tower: Bench, pair: Pair, sequence: int, body: UpdateRequest | None = None) -> SignedReceipt:
    """Store a state; the receipt."""
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    request = pair.update_request(Side.B, sequence) if body is None else body
    return told(accept_state(tower.context, stream, request).answer.receipt)


def bare(pair: Pair, sequence: int) -> UpdateRequest:
    """A state without the revocation of its predecessor."""
    return msgspec.structs.replace(pair.update_request(Side.B, sequence), revoked_secret=None, next_point=None)


def stream_of(tower: Bench, pair: Pair) -> str:
    """The channel's stream."""
    return tower.context.channels.stream_of(pair.params.proposal_id)


def found(tower: Bench, receipt: LogReceipt) -> Any:
    """The event at the position of a receipt."""
    return tower.store.read_log(receipt.position - 1, 1)[0].envelope


# ── what a receipt says ──────────────────────────────────────────────────────────────────────────────────


def test_the_receipt_of_a_state_names_its_event(tower: Bench, pair: Pair) -> None:
    """Tower, channel, number, upload, height, and the place of exactly the event that holds the state."""
    tower.registered(pair)

    receipt = upload(tower, pair, 1).verified(TOWER_ID)

    assert (pair.channel_id, 1, TIP) == (receipt.subject, receipt.seq, receipt.tip_height)
    assert sha256_of_update(pair.update_request(Side.B, 1)) == receipt.upload_sha256
    event = found(tower, receipt)
    assert isinstance(event.payload, StateUpdated)
    stored = tower.store._log[receipt.position - 1]
    assert leaf(*stored) == receipt.leaf
    assert (bytes(16), 0) == (receipt.log_id, receipt.epoch)


def test_the_receipt_of_a_registration(tower: Bench, pair: Pair) -> None:
    """It names the registration by a number that no state has, and the upload that the owner signed."""
    tower.fund(pair)
    done = register(tower.context, pair.registration(Side.B))
    again = register(tower.context, pair.registration(Side.B))

    receipt = told(done.channel.receipt).verified(TOWER_ID)

    assert (REGISTRATION_SEQ, True, False) == (receipt.seq, done.created, again.created)
    assert sha256_of_registration(pair.registration(Side.B)) == receipt.upload_sha256
    assert done.channel.receipt == again.channel.receipt
    assert found(tower, receipt).topic == "fu02"


def test_the_head_is_that_of_the_commit(tmp_path: Path, pair: Pair) -> None:
    """On a real log: position, leaf and head are those of the row of the commit chain that holds the event."""
    with open_store(new_log(tmp_path)) as store:
        tower = Bench(tmp_path, store=store)  # type: ignore[arg-type]
        tower.registered(pair)
        receipts = [upload(tower, pair, sequence).verified(TOWER_ID) for sequence in (1, 2, 3)]
        with SqliteSource(store.path) as source:
            commits = [source.commit_at(receipt.position) for receipt in receipts]

    assert [commit.head for commit in commits if commit] == [receipt.head for receipt in receipts]
    assert [commit.leaves for commit in commits if commit] == [receipt.leaf for receipt in receipts]
    assert len({receipt.head for receipt in receipts}) == 3


def test_receipts_after_a_restart_are_the_same(tmp_path: Path, pair: Pair) -> None:
    """The log is opened anew, nothing is in memory: every upload gets its old bytes, found by a search."""
    path = new_log(tmp_path)
    with open_store(path) as store:
        tower = Bench(tmp_path, store=store)  # type: ignore[arg-type]
        tower.registered(pair)
        before = [upload(tower, pair, sequence) for sequence in (1, 2, 3)]
        names = ("registration", "1", "2", "3")
        known = [reissue(tower.context, stream_of(tower, pair), name) for name in names]
    (tmp_path / "again").mkdir()
    with open_store(path) as store:
        tower = Bench(tmp_path / "again", store=store)  # type: ignore[arg-type]
        after = [upload(tower, pair, sequence) for sequence in (1, 2, 3)]
        found_again = [reissue(tower.context, stream_of(tower, pair), name) for name in names]

    assert before == after == known[1:]
    assert known == found_again


@pytest.mark.slow
def test_many_uploads_share_commits_and_each_has_its_place(tmp_path: Path) -> None:
    """Twenty callers at once: positions differ, leaves are those of the stored rows, heads lead to them."""
    pairs = [open_pair(names=(f"a{number}", f"b{number}")) for number in range(20)]
    with open_store(new_log(tmp_path)) as store:
        tower = Bench(tmp_path, store=store)  # type: ignore[arg-type]
        for each in pairs:
            each.update()
            tower.registered(each)
        with ThreadPoolExecutor(20) as pool:
            receipts = [signed.verified() for signed in pool.map(lambda each: upload(tower, each, 1), pairs)]
        with SqliteSource(store.path) as source:
            rows = {row[0]: leaf(*row[1:]) for row in source.rows(1, source.last_id())}
            heads = {commit.last_id: commit.head for commit in source.commits(1, 1_000)}
            ends = [source.commit_at(receipt.position) for receipt in receipts]

    assert len({receipt.position for receipt in receipts}) == 20
    assert [rows[receipt.position] for receipt in receipts] == [receipt.leaf for receipt in receipts]
    assert [heads[end.last_id] for end in ends if end] == [receipt.head for receipt in receipts]


# ── the same upload, the same receipt ────────────────────────────────────────────────────────────────────


def test_a_repeated_upload_gets_the_same_bytes(tower: Bench, pair: Pair) -> None:
    """Also after later states, and as often as it is asked."""
    tower.registered(pair)
    first = upload(tower, pair, 1)
    upload(tower, pair, 2)
    upload(tower, pair, 3)

    assert first == upload(tower, pair, 1)
    assert first == reissue(tower.context, stream_of(tower, pair), "1")


def test_other_bytes_for_an_old_state_get_no_receipt(tower: Bench, pair: Pair) -> None:
    """Another secret or point than the one that was stored long ago is refused: nothing is signed about it."""
    tower.registered(pair)
    for sequence in (1, 2, 3):
        upload(tower, pair, sequence)
    real = pair.update_request(Side.B, 1)
    other_point = msgspec.structs.replace(real, next_point=pair.update_request(Side.B, 2).next_point)
    other_state = msgspec.structs.replace(pair.update_request(Side.B, 2), state=real.state)

    for wrong in (other_point, other_state):
        with pytest.raises(Equivocation):
            upload(tower, pair, 1, wrong)


def test_a_state_without_and_with_its_revocation(tower: Bench, pair: Pair) -> None:
    """Two uploads have two receipts: the second names the event that brought the revocation; both stay the same."""
    tower.registered(pair)
    without = upload(tower, pair, 1, bare(pair, 1))
    complete = upload(tower, pair, 1)
    upload(tower, pair, 2)

    first, second = without.verified(TOWER_ID), complete.verified(TOWER_ID)
    assert isinstance(found(tower, first).payload, StateUpdated)
    assert isinstance(found(tower, second).payload, StateRevoked)
    assert sha256_of_update(bare(pair, 1)) == first.upload_sha256
    assert sha256_of_update(pair.update_request(Side.B, 1)) == second.upload_sha256
    assert (without, complete) == (upload(tower, pair, 1, bare(pair, 1)), upload(tower, pair, 1))
    assert complete == reissue(tower.context, stream_of(tower, pair), "1")


def test_a_revocation_that_came_by_itself(tower: Bench, pair: Pair) -> None:
    """The full upload after it stores nothing, and its receipt names the revocation that was there before."""
    tower.registered(pair)
    upload(tower, pair, 1, bare(pair, 1))
    revoke(tower.context, stream_of(tower, pair), pair.parties[Side.B].peer_release_body(pair.channel_id, 0))
    last = tower.store.last_id()

    receipt = upload(tower, pair, 1).verified(TOWER_ID)

    assert last == tower.store.last_id() == receipt.position


def test_a_bare_upload_after_the_full_one(tower: Bench, pair: Pair) -> None:
    """It names the same event, and the shorter upload."""
    tower.registered(pair)
    full, less = upload(tower, pair, 1).read(), upload(tower, pair, 1, bare(pair, 1)).read()

    assert (full.position, full.leaf) == (less.position, less.leaf)
    assert full.upload_sha256 != less.upload_sha256


def test_state_zero_has_a_receipt_too(tower: Bench, pair: Pair) -> None:
    """It was stored with the registration, in one commit."""
    tower.registered(pair)
    zero, whole = (reissue(tower.context, stream_of(tower, pair), name).read() for name in ("0", "registration"))

    assert (0, REGISTRATION_SEQ) == (zero.seq, whole.seq)
    assert zero.head == whole.head
    assert zero.position == whole.position + 1


@pytest.mark.parametrize(
    ("number", "error"),
    [("4", UnknownState), ("x", MalformedInput), ("-1", MalformedInput), (str(2**48), MalformedInput)],
)
def test_what_has_no_receipt(tower: Bench, pair: Pair, number: str, error: type[Exception]) -> None:
    """A state that is not there, and what is no number."""
    tower.registered(pair)

    with pytest.raises(error):
        reissue(tower.context, stream_of(tower, pair), number)


def test_a_stream_that_begins_otherwise_has_no_registration(tower: Bench, pair: Pair) -> None:
    """The log is damaged where the registration should be; that is said, and nothing is signed."""
    tower.registered(pair)
    channel = msgspec.structs.replace(tower.context.channels.load(stream_of(tower, pair)), stream="c-elsewhere")

    with pytest.raises(LogCorrupt):
        receipts_of_channels.sign_registration(tower.context, channel)


# ── in doubt nothing is signed ───────────────────────────────────────────────────────────────────────────


def test_no_receipt_while_the_log_is_in_doubt(tower: Bench, pair: Pair) -> None:
    """States are stored all the same, because that protects; questions about receipts are refused."""
    tower.registered(pair)
    tower.may_sign = False
    stream = stream_of(tower, pair)

    answer = accept_state(tower.context, stream, pair.update_request(Side.B, 1)).answer

    assert answer.receipt is None
    assert tower.context.channels.load(stream).sequence == 1
    with pytest.raises(ReceiptsSuspended):
        reissue(tower.context, stream, "1")
    assert tower.services.get_tower(None).log is None


def test_what_was_stored_in_doubt_gets_its_receipt_later(tower: Bench, pair: Pair) -> None:
    """The same upload again, once receipts are signed: nothing is stored, and the receipt is there."""
    tower.registered(pair)
    tower.may_sign = False
    accept_state(tower.context, stream_of(tower, pair), pair.update_request(Side.B, 1))
    last = tower.store.last_id()
    tower.may_sign = True

    assert upload(tower, pair, 1).verified(TOWER_ID).position == last == tower.store.last_id()


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────────────


def restored(tower: Bench, position: int, epoch: int) -> None:
    """The log says that it went on behind a position."""
    event = StoreRestored(
        recorded_at=0, epoch=epoch, position=position, head=bytes(32), high_water=position + 5, source="a copy"
    )
    tower.store.append(envelopes(LOG_STREAM, tower.store.version(LOG_STREAM), (event,)))


def test_a_receipt_keeps_the_epoch_of_its_event(tower: Bench, pair: Pair) -> None:
    """Events before a restore belong to the epoch before; so their receipts stay the same byte for byte."""
    tower.registered(pair)
    before = upload(tower, pair, 1)
    restored(tower, tower.store.last_id(), 4)
    signer = ReceiptSigner(TOWER_KEY, bytes(16), tower.store, epoch_at=Epochs(tower.store, lambda: 4))
    tower.context = msgspec.structs.replace(tower.context, receipts=signer)
    after = upload(tower, pair, 2)
    restored(tower, tower.store.last_id(), 7)
    fresh = Epochs(tower.store, lambda: 7)

    assert (0, 4) == (before.read().epoch, after.read().epoch)
    assert before == reissue(tower.context, stream_of(tower, pair), "1")
    last = tower.store.last_id()
    assert [0, 4, 7, 7] == [fresh(position) for position in (before.read().position, last - 1, last, last + 9)]


def test_a_log_that_was_never_restored_is_not_read() -> None:
    """The usual case costs nothing."""
    assert Epochs(None, lambda: 0)(5) == 0  # type: ignore[arg-type]


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def served(tower: Bench, pair: Pair) -> tuple[Bench, str]:
    """A tower with a registered channel that has state 1, and the channel's name."""
    name = tower.registered(pair)
    upload(tower, pair, 1)
    return tower, name


@pytest.mark.asyncio
async def test_receipts_are_told_again(served: tuple[Bench, str], pair: Pair) -> None:
    """By number, or by the word; the answer is the one that the upload had."""
    tower, name = served
    async with tower.http() as http:
        again = await http.get(f"/v1/receipts/{name}/1")
        registration = await http.get(f"/v1/receipts/{name[:12]}/registration")
        missing = await http.get(f"/v1/receipts/{name}/2")
        nonsense = await http.get(f"/v1/receipts/{name}/first")

    assert upload(tower, pair, 1).body.hex() == again.json()["body"]
    assert LogReceipt.decode(bytes.fromhex(registration.json()["body"])).is_registration
    assert (404, "urn:state-channel:unknown-state") == (missing.status_code, missing.json()["type"])
    assert (400, "urn:state-channel:malformed") == (nonsense.status_code, nonsense.json()["type"])


@pytest.mark.asyncio
async def test_suspended_receipts_are_a_problem_of_their_own(served: tuple[Bench, str], pair: Pair) -> None:
    """503 with the slug; the upload itself is answered with null where the receipt would be."""
    tower, name = served
    tower.may_sign = False
    async with tower.http() as http:
        refused = await http.get(f"/v1/receipts/{name}/1")
        content = pair.update_request(Side.B, 2)
        stored = await http.post(
            f"/v1/channels/{name}/states", content=to_json(content), headers={"Content-Type": "application/json"}
        )

    assert (503, "urn:state-channel:receipts-suspended") == (refused.status_code, refused.json()["type"])
    assert (200, None, 2) == (stored.status_code, stored.json()["receipt"], stored.json()["sequence"])


@pytest.mark.asyncio
async def test_the_tower_shows_its_log(served: tuple[Bench, str]) -> None:
    """`/v1/info` tells log, epoch and position, for clients that hold receipts."""
    tower, _ = served
    async with tower.http() as http:
        info = (await http.get("/v1/info")).json()

    assert {"log_id": "00" * 16, "epoch": 0, "position": tower.store.last_id()} == info["log"]


@pytest.mark.asyncio
async def test_strangers_get_no_receipts(served: tuple[Bench, str]) -> None:
    """Without a token nothing is told."""
    tower, name = served
    async with httpx.AsyncClient(transport=tower.transport(), base_url="http://tower") as http:
        assert (await http.get(f"/v1/receipts/{name}/1")).status_code == 401


# ── what the tower says about a receipt ──────────────────────────────────────────────────────────────────


def answer_about(tower: Bench, signed: SignedReceipt) -> ReceiptAnswer:
    """The tower's signed answer."""
    body = body_of(signed)
    assert body is not None
    answered = check(tower.context, body)
    return read_answer(bytes(answered.body), bytes(answered.signature), signed)


def forged(signed: SignedReceipt, **changes: object) -> SignedReceipt:
    """A receipt that the tower signs although it is not true."""
    return TOWER_KEY.receipt(msgspec.structs.replace(signed.read(), **changes).encode())


def test_an_honest_tower_confirms_its_receipt(tower: Bench, pair: Pair) -> None:
    """Leaf and head are those of the receipt."""
    tower.registered(pair)
    signed = upload(tower, pair, 1)

    answer = answer_about(tower, signed)

    assert (signed.read().leaf, signed.read().head) == (answer.leaf, answer.head)
    assert ReceiptVerdict.CONSISTENT == judge_receipt(signed.read(), answer.shown()).verdict


def test_a_tower_that_signed_too_much_convicts_itself(tower: Bench, pair: Pair) -> None:
    """An event that is not there, and one with another leaf: its own answer contradicts the receipt."""
    tower.registered(pair)
    signed = upload(tower, pair, 1)
    future, other = forged(signed, position=10_000), forged(signed, leaf=bytes(31) + b"\x01")

    absent, present = answer_about(tower, future), answer_about(tower, other)

    assert (NOTHING, NOTHING) == (absent.leaf, absent.head)
    assert ReceiptVerdict.MISBEHAVIOR == judge_receipt(future.read(), absent.shown()).verdict
    assert ReceiptVerdict.MISBEHAVIOR == judge_receipt(other.read(), present.shown()).verdict


def test_only_own_receipts_are_answered(tower: Bench, pair: Pair) -> None:
    """Another tower's receipt, or a changed one, gets no signature of this tower."""
    tower.registered(pair)
    signed = upload(tower, pair, 1)
    foreign = TowerKey(bytes(31) + b"\x09").receipt(signed.body)
    changed = SignedReceipt(signed.body, bytes(64))

    for bad in (foreign, changed):
        with pytest.raises(InvalidSignature):
            answer_about(tower, bad)


def test_no_answer_while_the_log_is_in_doubt(tower: Bench, pair: Pair) -> None:
    """A tower that does not know whether its log is whole signs nothing about it."""
    tower.registered(pair)
    signed = upload(tower, pair, 1)
    tower.may_sign = False

    with pytest.raises(ReceiptsSuspended):
        answer_about(tower, signed)


def test_an_answer_is_bound_to_its_receipt(tower: Bench, pair: Pair) -> None:
    """Nobody can show the answer about one receipt for another, nor change a byte of it."""
    tower.registered(pair)
    first, second = upload(tower, pair, 1), upload(tower, pair, 2)
    body = body_of(first)
    assert body is not None
    answered = check(tower.context, body)
    changed = bytes(answered.body[:-1]) + bytes([answered.body[-1] ^ 1])

    with pytest.raises(InvalidSignature, match="another receipt"):
        read_answer(bytes(answered.body), bytes(answered.signature), second)
    with pytest.raises(InvalidSignature, match="not signed"):
        read_answer(changed, bytes(answered.signature), first)
    with pytest.raises(MalformedInput):
        ReceiptAnswer.decode(bytes(answered.body[:-1]))


# ── the key ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_shows_nothing() -> None:
    """Neither repr nor a copy nor an error holds the secret."""
    secret = bytes(range(1, 33))
    key = TowerKey(secret)

    assert secret.hex() not in repr(key)
    assert key.tower_id.hex() in repr(key)
    with pytest.raises(TypeError):
        key.__reduce__()
    with pytest.raises(TowerKeyMissing) as refused:
        read_tower_key(secret.hex() + "zz", "tower.key")
    assert secret.hex() not in str(refused.value)


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 32, "ff" * 32, "11" * 31])
def test_what_is_no_key_is_refused(text: str) -> None:
    """The sentence names the place and what to do."""
    with pytest.raises(TowerKeyMissing, match=r"tower\.key"):
        read_tower_key(text, "tower.key")
