"""The HTTP API over the real use cases: answers, problem documents, and a store that bad input leaves alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from domain.contract.receipts import SignedReceipt
from domain.contract.scripts import p2tr
from domain.events import AlertKind, AlertRaised, EquivocationFound
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair
from tests.support.towers import TIP, TOKEN, TOWER_ID, Bench
from watchtower.channels import finding
from watchtower.http.app import ROUTES, create_admin_app, create_app
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.problems import STATUS, TITLES
from watchtower.http.routes import Limits
from watchtower.http.services import Standing, bind
from watchtower.keystore import KeystoreError
from watchtower.ports import NodeUnavailable, StoreBusy, StoreConflict, StoreFull, WatchtowerError, WrongChain
from watchtower.wire.hexes import to_plain

JSON = {"Content-Type": "application/json"}
OFF_CURVE = "02" + "ff" * 32
Body = dict[str, Any]


@pytest.fixture
def pair() -> Pair:
    """A channel of 1,000,000 sat with state 0."""
    return open_pair()


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


@pytest_asyncio.fixture
async def http(tower: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that tower."""
    async with tower.http() as client:
        yield client


async def post(http: httpx.AsyncClient, path: str, body: object) -> httpx.Response:
    """POST a struct or plain body as JSON."""
    return await http.post(path, content=msgspec.json.encode(to_plain(body)), headers=JSON)


def assert_problem(answer: httpx.Response, status: int, slug: str, *words: str) -> None:
    """The answer is the RFC 9457 document of this slug and its detail has these words."""
    document = answer.json()
    assert (answer.status_code, document["status"]) == (status, status), document
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"urn:state-channel:{slug}"
    assert document["title"]
    for word in words:
        assert word in document["detail"]


# ── the good way ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_register_update_revoke_and_ask(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A channel is registered, updated with revocations, and every question answers from the log."""
    tower.fund(pair)
    name = pair.channel_id.hex()
    created = await post(http, "/v1/channels", pair.registration(Side.B))
    assert created.status_code == 201
    assert created.json()["status"] == "PROPOSED"
    assert (await http.get(f"/v1/channels/{name}")).json() == created.json() | {"receipt": None}
    tower.confirm(pair)
    pair.updates(3)

    for sequence in (1, 2, 3):
        stored = await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, sequence))
        assert stored.status_code == 200
        answer = stored.json()
        assert SignedReceipt(*map(bytes.fromhex, answer.pop("receipt").values())).verified(TOWER_ID).seq == sequence
        assert answer == {
            "channel_id": name,
            "sequence": sequence,
            "state_hash": pair.state(sequence).content.state_hash.hex(),
            "final_sequence": sequence,
        }
    released = await post(http, f"/v1/channels/{name}/revocations", pair.release_request(Side.B, 2))
    assert released.json() == {"channel_id": name, "party": "B", "sequence": 2, "final_sequence": 3}

    info = (await http.get(f"/v1/channels/{name[:8]}")).json()
    assert (info["status"], info["current_sequence"], info["final_sequence"]) == ("ACTIVE", 3, 3)
    assert info["balances"] == [497_000, 503_000]
    assert info["funding_txid"] == pair.funding.txid[::-1].hex()
    assert [each["initial_balance"] for each in info["participants"]] == [500_000, 500_000]
    assert [each["pubkey"] for each in info["participants"]] == [pair.params.keys(side).fund.hex() for side in Side]
    by_proposal = await http.get(f"/v1/channels/{pair.params.proposal_id.hex()}")
    assert by_proposal.json() == info


@pytest.mark.asyncio
async def test_the_secret_is_kept_and_shown_nowhere(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """The keystore has the revocation secret; neither the log nor any answer does."""
    tower.fund(pair)
    created = await post(http, "/v1/channels", pair.registration(Side.B))
    secret = pair.secrets(Side.B).rev

    assert tower.keystore.get(pair.params.proposal_id) == secret
    shown = created.content + repr(tower.store._log).encode() + repr(tower.store.read_log(0, 100)).encode()
    assert secret.hex().encode() not in shown
    assert repr(secret)[2:-1].encode() not in shown
    assert all(secret not in state for _, _, _, state in tower.store._log)


@pytest.mark.asyncio
async def test_repetitions_get_the_same_answer_and_store_nothing(
    tower: Bench, http: httpx.AsyncClient, pair: Pair
) -> None:
    """Identical bytes again: same body, a header that says so, no event."""
    name = tower.registered(pair)
    pair.update()
    again = await post(http, "/v1/channels", pair.registration(Side.B))
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    paths = [
        (f"/v1/channels/{name}/states", pair.update_request(Side.B, 1)),
        (f"/v1/channels/{name}/revocations", pair.release_request(Side.B, 0)),
    ]

    for path, body in paths:
        first = await post(http, path, body)
        stored = tower.store.last_id()
        second = await post(http, path, body)
        assert (second.status_code, second.content) == (200, first.content)
        assert "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true"
        assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_an_answer_stays_the_same_whatever_came_since(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A state whose predecessor is revoked later: sent again it gets the bytes of the first time."""
    path = f"/v1/channels/{tower.registered(pair)}"
    pair.updates(2)
    later = pair.update_request(Side.B, 1)
    body = replace(later, revoked_secret=None, next_point=None)
    first = await post(http, f"{path}/states", body)

    await post(http, f"{path}/states", later)
    await post(http, f"{path}/states", pair.update_request(Side.B, 2))
    again = await post(http, f"{path}/states", body)

    assert (200, first.content) == (again.status_code, again.content)
    assert 0 == first.json()["final_sequence"]


@pytest.mark.asyncio
async def test_every_stored_change_is_announced(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """The chain task hears of each change, and of repetitions nothing."""
    name = tower.registered(pair)
    pair.update()
    upload = pair.update_request(Side.B, 1)

    await post(http, f"/v1/channels/{name}/states", upload)
    await post(http, f"/v1/channels/{name}/states", upload)

    assert tower.announced == [tower.context.channels.stream_of(pair.params.proposal_id)] * 2


@pytest.mark.asyncio
async def test_pages_of_channels_and_of_a_timeline(tower: Bench, http: httpx.AsyncClient) -> None:
    """Pages follow each other without gap or overlap; status filters."""
    names = sorted(tower.registered(open_pair(names=(f"a{n}", f"b{n}"))) for n in range(5))
    found: list[str] = []
    after = ""
    while True:
        page = (await http.get(f"/v1/channels?limit=2{after}")).json()
        found += [each["channel_id"] for each in page["channels"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert sorted(found) == names
    assert len((await http.get("/v1/channels?status=ACTIVE")).json()["channels"]) == 5
    assert (await http.get("/v1/channels?status=PUNISHED")).json() == {"channels": [], "next": None}
    history = (await http.get(f"/v1/channels/{names[0]}/timeline?limit=3")).json()
    rest = (await http.get(f"/v1/channels/{names[0]}/timeline?after={history['next']}")).json()
    kinds = [entry["kind"] for entry in history["entries"] + rest["entries"]]
    assert kinds == ["ChannelProposed", "ChannelRegistered", "StateUpdated", "FundingConfirmed"]


@pytest.mark.asyncio
async def test_the_towers_own_state(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """`/v1/info` tells version, network, tip in display order, and totals."""
    tower.registered(pair)
    tower.standing = Standing(True, False, "degraded", ("node_unreachable: …",), 200, b"\x01" + bytes(31), 3)

    info = (await http.get("/v1/info")).json()

    assert (info["version"], info["network"], info["tower_id"]) == ("1.2.3", "regtest", TOWER_ID.hex())
    assert (info["height"], info["tip_hash"], info["lag"]) == (200, "00" * 31 + "01", 3)
    assert (info["channels"], info["capacity"]) == (1, 1_000_000)
    assert (info["operational"], info["watching"], info["phase"]) == (True, False, "degraded")
    assert {"reorg": 24, "outage": 100, "last_blocks": 6, "min_challenge_period": 1} == info["promise"]


@pytest.mark.asyncio
async def test_health_and_readiness_need_no_token(tower: Bench) -> None:
    """Probes work without a token; readiness turns 503 when nothing can be stored."""
    async with httpx.AsyncClient(transport=tower.transport(), base_url="http://tower") as probe:
        assert (await probe.get("/healthz")).status_code == 200
        assert (await probe.get("/readyz")).status_code == 200
        tower.standing = Standing(False, False, "degraded", ("store_read_only",))
        answer = await probe.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["store_read_only"])


@pytest.mark.asyncio
async def test_a_fault_of_the_admin_listener_is_a_problem() -> None:
    """Without a word about what failed."""

    def fail() -> bytes:
        raise RuntimeError("secret")

    transport = httpx.ASGITransport(create_admin_app(fail), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as admin:
        assert_problem_without_detail(await admin.get("/metrics"), 500, "internal")


@pytest.mark.asyncio
@pytest.mark.parametrize("cursor", ["zz", "", "c", "%00", "d" + "a" * 22])
async def test_a_cursor_that_no_page_gave_is_refused(http: httpx.AsyncClient, cursor: str) -> None:
    """What is behind it would look like the end of the list."""
    answer = await http.get(f"/v1/channels?after={cursor}")

    assert (400, True) == (answer.status_code, answer.json()["type"].endswith(":malformed"))


@pytest.mark.asyncio
async def test_metrics_on_the_admin_listener() -> None:
    """The admin application renders what it is given, and nothing else."""
    transport = httpx.ASGITransport(create_admin_app(lambda: b"watchtower_up 1\n"))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as admin:
        assert (await admin.get("/metrics")).content == b"watchtower_up 1\n"
        assert_problem_without_detail(await admin.get("/v1/info"), 404, "not-found")


def assert_problem_without_detail(answer: httpx.Response, status: int, slug: str) -> None:
    """A problem whose title says everything."""
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:state-channel:{slug}")


# ── funding ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_f02_unseen_funding_is_pending_with_the_transaction(
    tower: Bench, http: httpx.AsyncClient, pair: Pair
) -> None:
    """An unsent funding transaction is taken if it creates the output and its inputs are unspent; updates wait."""
    (source,) = Transaction.parse(pair.funding.raw).inputs
    tower.node.add_coin(source.outpoint, 2_000_000, p2tr(bytes(32)))
    name = pair.channel_id.hex()

    assert (await post(http, "/v1/channels", pair.registration(Side.B))).status_code == 201
    assert (await http.get(f"/v1/channels/{name}/funding")).json()["status"] == "UNSEEN"
    pair.update()
    early = await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    assert_problem(early, 409, "channel-not-ready", "not confirmed")

    tower.confirm(pair)
    late = await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    assert late.status_code == 200


FUNDING_FAULTS: dict[str, tuple[Callable[[Bench, Pair], object], str]] = {
    "unknown": (lambda tower, pair: None, "is spent or unknown"),
    "other script": (
        lambda tower, pair: tower.node.add_coin(pair.params.funding_outpoint, 1_000_000, p2tr(bytes(32))),
        "pays script",
    ),
    "other value": (
        lambda tower, pair: tower.node.add_coin(
            pair.params.funding_outpoint, 999_999, Transaction.parse(pair.funding.raw).outputs[0].spk
        ),
        "999999",
    ),
    "spent in the mempool": (
        lambda tower, pair: (
            tower.fund(pair),
            tower.node.spenders.update({pair.params.funding_outpoint: bytes(32)}),
        ),
        "being spent",
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", FUNDING_FAULTS)
async def test_f01_funding_that_is_not_as_agreed(tower: Bench, http: httpx.AsyncClient, pair: Pair, fault: str) -> None:
    """Missing, spent, another script, another value: refused, nothing stored, no secret kept."""
    arrange, words = FUNDING_FAULTS[fault]
    arrange(tower, pair)

    answer = await post(http, "/v1/channels", pair.registration(Side.B))

    assert_problem(answer, 422, "funding-mismatch", words)
    assert tower.store.last_id() == 1
    assert tower.keystore.get(pair.params.proposal_id) is None


@pytest.mark.asyncio
async def test_unseen_funding_without_the_transaction(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """The refusal says what to add."""
    answer = await post(http, "/v1/channels", pair.registration(Side.B, with_funding_tx=False))

    assert_problem(answer, 422, "funding-mismatch", "register with funding_tx")


@pytest.mark.asyncio
async def test_funding_transaction_of_something_else(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A funding_tx with another txid is refused even if the output exists."""
    tower.fund(pair)
    body = to_plain(pair.registration(Side.B))
    other = Transaction(2, (TxIn(bytes(36), 0),), (TxOut(1_000_000, p2tr(bytes(32))),), 0)

    answer = await post(http, "/v1/channels", {**body, "funding_tx": other.serialize().hex()})

    assert_problem(answer, 422, "funding-mismatch", "funding_tx has txid")


@pytest.mark.asyncio
async def test_funding_status_in_all_its_forms(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """Mempool, in a block, spent in the mempool, and from the log while the node is down.

    `confirmed` speaks of the log: the tower has seen the block, so updates are accepted.
    """
    tower.fund(pair, confirmations=0)
    await post(http, "/v1/channels", pair.registration(Side.B))
    path = f"/v1/channels/{pair.channel_id.hex()}/funding"
    outpoint = pair.params.funding_outpoint

    assert (await http.get(path)).json()["status"] == "MEMPOOL"
    tower.fund(pair, confirmations=3)
    confirmed = (await http.get(path)).json()
    assert (confirmed["status"], confirmed["confirmations"], confirmed["confirmed"]) == ("CONFIRMED", 3, False)
    tower.node.spenders[outpoint] = b"\x01" + bytes(31)
    spent = (await http.get(path)).json()
    assert (spent["status"], spent["spent_by"]["txid"]) == ("SPENT_BY", "00" * 31 + "01")
    tower.confirm(pair, TIP - 1)
    tower.node.is_down = True
    from_log = (await http.get(path)).json()
    assert (from_log["status"], from_log["confirmations"], from_log["confirmed"]) == ("CONFIRMED", 2, True)


# ── bad input: registrations ─────────────────────────────────────────────────────────────────────────────


def with_params(change: Callable[[bytearray], object]) -> Callable[[Pair, Body], Body]:
    """A registration whose 516 bytes were changed."""

    def altered(pair: Pair, body: Body) -> Body:
        raw = bytearray.fromhex(body["params"])
        change(raw)
        return {**body, "params": raw.hex()}

    return altered


def field(name: str, value: object) -> Callable[[Pair, Body], Body]:
    """A registration with another value in one field."""
    return lambda pair, body: {**body, name: value}


def in_state(name: str, value: object) -> Callable[[Pair, Body], Body]:
    """A registration with another value in one field of its state."""
    return lambda pair, body: {**body, "state": {**body["state"], name: value}}


def set_bytes(start: int, raw: bytes) -> Callable[[bytearray], object]:
    """Overwrite a part of the constants."""
    return lambda params: params.__setitem__(slice(start, start + len(raw)), raw)


REGISTRATION_FAULTS: dict[str, tuple[Callable[[Pair, Body], Body], int, str, str]] = {
    "hex": (field("params", "zz" * 516), 400, "malformed", "$.params"),
    "odd hex": (field("params", "0" * 1031), 400, "malformed", "hexadecimal"),
    "upper case": (field("sweep_spk", "AB"), 400, "malformed", "lower-case"),
    "short params": (field("params", "00" * 515), 400, "malformed", "516 bytes"),
    "version": (with_params(set_bytes(0, b"\x02")), 400, "malformed", "version"),
    "missing field": (lambda pair, body: {k: v for k, v in body.items() if k != "state"}, 400, "malformed", "state"),
    "unknown field": (field("note", "hi"), 400, "malformed", "note"),
    "side": (field("own_side", "C"), 400, "malformed", "own_side"),
    "index": (field("channel_index", -1), 400, "malformed", "channel_index"),
    "no object": (lambda pair, body: [body], 400, "malformed", "object"),
    "profile 2": (with_params(set_bytes(1, b"\x02")), 422, "invalid-params", "profile 2"),
    "network": (with_params(set_bytes(2, bytes(32))), 422, "invalid-params", "network"),
    "capacity": (with_params(set_bytes(70, (5_000).to_bytes(8, "little"))), 422, "invalid-params", "capacity"),
    "period": (with_params(set_bytes(78, bytes(2))), 422, "invalid-params", "challenge period"),
    "anchor": (with_params(set_bytes(84, bytes(8))), 422, "invalid-params", "anchor"),
    "flags": (with_params(set_bytes(100, b"\x10")), 422, "invalid-params", "flags"),
    "key off the curve": (with_params(set_bytes(104, bytes.fromhex(OFF_CURVE))), 422, "invalid-params", "fund_A"),
    "key twice": (
        lambda pair, body: with_params(set_bytes(104, pair.params.keys_b.fund))(pair, body),
        422,
        "invalid-params",
        "repeats",
    ),
    "unknown funding": (
        with_params(set_bytes(34, bytes(32) + b"\xff" * 4)),
        422,
        "invalid-params",
        "funding outpoint",
    ),
    "sweep script": (field("sweep_spk", "76a914" + "00" * 20 + "88ac"), 422, "invalid-params", "witness program"),
    "sweep to P2A": (field("sweep_spk", "51024e73"), 422, "invalid-params", "P2A"),
    "secret of another key": (field("revocation_secret", "07" * 32), 422, "invalid-secret", "rev key"),
    "secret zero": (field("revocation_secret", "00" * 32), 422, "invalid-secret", "rev key"),
    "own point off the curve": (
        lambda pair, body: {**body, "own_points": [body["own_points"][0], OFF_CURVE]},
        400,
        "malformed",
        "point",
    ),
    "their point off the curve": (
        lambda pair, body: {**body, "counterparty_points": [OFF_CURVE, OFF_CURVE]},
        400,
        "malformed",
        "point",
    ),
    "upload signature": (field("upload_sig", "00" * 64), 422, "invalid-signature", "upload_sig"),
    "header length": (in_state("header", "00" * 319), 400, "malformed", "$.state.header"),
    "header magic": (in_state("header", "00" * 320), 400, "malformed", "SCT1"),
    "state data": (in_state("state_data", "00"), 422, "invalid-state", "state_data_hash"),
    "own point of the state": (in_state("own_point", OFF_CURVE), 400, "malformed", "own_point"),
    "giant state data": (in_state("state_data", "00" * 65_537), 400, "malformed", "at most"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", REGISTRATION_FAULTS)
async def test_bad_registrations(tower: Bench, http: httpx.AsyncClient, pair: Pair, fault: str) -> None:
    """Each fault has its own typed refusal; log and keystore stay as they were."""
    change, status, slug, words = REGISTRATION_FAULTS[fault]
    tower.fund(pair)

    answer = await post(http, "/v1/channels", change(pair, to_plain(pair.registration(Side.B))))

    assert_problem(answer, status, slug, words)
    assert tower.store.last_id() == 1
    assert tower.keystore.get(pair.params.proposal_id) is None


@pytest.mark.asyncio
@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("name", ["state", "settle_A", "settle_B", "commit_peer"])
async def test_every_signature_of_state_zero_counts(
    tower: Bench, http: httpx.AsyncClient, pair: Pair, side: str, name: str
) -> None:
    """Any one of the eight signatures wrong: refused, and the refusal names it."""
    tower.fund(pair)
    body = to_plain(pair.registration(Side.B))
    body["state"]["signatures"][side][name] = "00" * 64

    answer = await post(http, "/v1/channels", body)

    assert_problem(answer, 422, "invalid-signature", name, f"of {side}")
    assert tower.store.last_id() == 1


@pytest.mark.asyncio
async def test_another_registration_of_the_same_channel(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """The first registration stands."""
    name = tower.registered(pair)
    stored = tower.store.last_id()

    answer = await post(http, "/v1/channels", pair.registration(Side.A))

    assert_problem(answer, 409, "channel-exists", "first registration stands")
    assert tower.store.last_id() == stored
    assert (await http.get(f"/v1/channels/{name}")).json()["own_side"] == "B"


@pytest.mark.asyncio
async def test_small_channels_are_taken_with_a_warning(tower: Bench, http: httpx.AsyncClient) -> None:
    """Between threshold and recommendation the answer warns."""
    pair = open_pair(balances=(12_000, 3_000), challenge_period=100)
    tower.fund(pair)

    created = await post(http, "/v1/channels", pair.registration(Side.B))

    capacity, period = created.json()["warnings"]
    assert "15000 sat is below 20000" in capacity
    assert "100 is below 144" in period


# ── bad input: states and revocations ────────────────────────────────────────────────────────────────────

STATE_FAULTS: dict[str, tuple[Callable[[Pair], object], int, str, str]] = {
    "gap": (
        lambda pair: pair.forged_update(Side.B, (400_000, 600_000), sequence=3),
        409,
        "sequence-gap",
        "2 comes next",
    ),
    "sum": (lambda pair: pair.forged_update(Side.B, (400_000, 500_000)), 422, "invalid-state", "add up"),
    "reserve": (lambda pair: pair.forged_update(Side.B, (999_000, 1_000)), 422, "invalid-state", "reserve"),
    "other application": (
        lambda pair: pair.forged_update(Side.B, (499_000, 501_000), app_id=b"\x01" * 32),
        422,
        "invalid-state",
        "app_id",
    ),
    "other history": (
        lambda pair: pair.forged_update(Side.B, (499_000, 501_000), prev_state_hash=b"\x01" * 32),
        422,
        "invalid-state",
        "prev_state_hash",
    ),
    "dust": (
        lambda pair: pair.forged_update(
            Side.B, (498_000, 496_600), conditions=[htlc(Side.A, n, 300, 900_000) for n in range(18)]
        ),
        422,
        "invalid-state",
        "below dust",
    ),
    "signature": (
        lambda pair: {
            **to_plain(body := pair.forged_update(Side.B, (499_000, 501_000))),
            "state": spoiled_signature(to_plain(body)["state"]),
        },
        422,
        "invalid-signature",
        "settle_B of A",
    ),
    "secret of another point": (
        lambda pair: {**to_plain(pair.forged_update(Side.B, (499_000, 501_000))), "revoked_secret": "07" * 32},
        422,
        "invalid-secret",
        "point",
    ),
    "next point off the curve": (
        lambda pair: {**to_plain(pair.forged_update(Side.B, (499_000, 501_000))), "next_point": OFF_CURVE},
        400,
        "malformed",
        "next_point",
    ),
    "secret without point": (
        lambda pair: {**to_plain(pair.forged_update(Side.B, (499_000, 501_000))), "next_point": None},
        400,
        "malformed",
        "both or none",
    ),
    "descriptor condition": (
        lambda pair: with_condition(pair, {"type": 2, "descriptor": "tr(00)"}),
        422,
        "invalid-state",
        "cannot be read as a descriptor",
    ),
    "conditions out of order": (
        lambda pair: with_condition(pair, {"id": 2}, {"id": 1}),
        400,
        "malformed",
        "ascend",
    ),
}


def spoiled_signature(state: Body) -> Body:
    """The state with one of its eight signatures cleared."""
    signatures = state["signatures"]
    return {**state, "signatures": {**signatures, "A": {**signatures["A"], "settle_B": "00" * 64}}}


def with_condition(pair: Pair, *changes: Body) -> Body:
    """An upload with conditions that nobody signed."""
    record = {"type": 0, "id": 1, "expiry": 900_000, "amount": 1_000, "hash": "00" * 32}
    body = to_plain(pair.forged_update(Side.B, (499_000, 501_000)))
    body["state"]["conditions"] = [{**record, **change} for change in changes]
    return dict(body)


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", STATE_FAULTS)
async def test_bad_states(tower: Bench, http: httpx.AsyncClient, pair: Pair, fault: str) -> None:
    """F06, F07, F09 and more, signed by both and still refused; the log stays as it was."""
    make, status, slug, words = STATE_FAULTS[fault]
    name = tower.registered(pair)
    pair.update()
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    stored = tower.store.last_id()

    answer = await post(http, f"/v1/channels/{name}/states", make(pair))

    assert_problem(answer, status, slug, words)
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_f06_second_content_for_a_stored_number(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """Another content for a stored number is refused, also for a replaced one; its evidence is stored once."""
    name = tower.registered(pair)
    second = pair.forged_update(Side.B, (400_000, 600_000))
    pair.updates(3)
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    first = await post(http, f"/v1/channels/{name}/states", second)
    found, alert = [each.envelope.payload for each in tower.store.read_log(tower.store.last_id() - 2, 2)]

    assert_problem(first, 409, "equivocation")
    assert found == EquivocationFound(
        recorded_at=found.recorded_at,
        sequence=1,
        stored_state_hash=pair.state(1).content.state_hash,
        offered_header=bytes(second.state.header),
        offered_sig=bytes(second.state.signatures.a.state),
    )
    assert isinstance(alert, AlertRaised)
    assert alert.kind is AlertKind.EQUIVOCATION
    for sequence in (2, 3):
        await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, sequence))
        stored = tower.store.last_id()
        answer = await post(http, f"/v1/channels/{name}/states", second)
        assert_problem(answer, 409, "equivocation")
        assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_a_forged_second_content_leaves_no_trace(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """Without the counterparty's signature a second content proves nothing: refused, and nothing is stored."""
    name = tower.registered(pair)
    second = to_plain(pair.forged_update(Side.B, (400_000, 600_000)))
    pair.update()
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    stored = tower.store.last_id()
    second["state"]["signatures"]["A"]["state"] = "11" * 64

    answer = await post(http, f"/v1/channels/{name}/states", second)

    assert_problem(answer, 409, "equivocation")
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_an_own_secret_is_not_taken(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """The release of an own state is a number; the secret itself is refused."""
    name = tower.registered(pair)
    pair.update()
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    body = {**to_plain(pair.release_request(Side.B, 0)), "secret": pair.secret(Side.B, 0).hex()}
    stored = tower.store.last_id()

    answer = await post(http, f"/v1/channels/{name}/revocations", body)

    assert_problem(answer, 422, "refused", "must not be uploaded")
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_f10_secret_that_contradicts_the_shachain(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A revocation that fits no earlier secret is refused."""
    name = tower.registered(pair)
    pair.updates(2)
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    body = {"party": "A", "sequence": 0, "secret": "07" * 32, "next_point": pair.point(Side.A, 2).hex()}
    stored = tower.store.last_id()

    answer = await post(http, f"/v1/channels/{name}/revocations", body)

    assert_problem(answer, 422, "invalid-secret", "secret is unique")
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_unknown_and_ambiguous_names(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A channel that is not here is 404 everywhere; what is no name is 400."""
    tower.registered(pair)
    pair.update()
    upload = pair.update_request(Side.B, 1)
    unknown = "00" * 32

    assert_problem(await http.get(f"/v1/channels/{unknown}"), 404, "unknown-channel")
    assert_problem(await http.get("/v1/channels/0000"), 404, "unknown-channel")
    assert_problem(await http.get(f"/v1/channels/{unknown}/funding"), 404, "unknown-channel")
    assert_problem(await post(http, f"/v1/channels/{unknown}/states", upload), 404, "unknown-channel")
    assert_problem(await http.get("/v1/channels/abc"), 400, "malformed", "4 to 64")
    assert_problem(await http.get("/v1/channels/nothexadecimal"), 400, "malformed", "4 to 64")


# ── the edge ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wt_wrong", f"Basic {TOKEN}", "Bearer " + "x" * 5_000])
@pytest.mark.parametrize(
    ("method", "route"), [(each.method, each.path) for each in ENDPOINTS if each.path.startswith("/v1")]
)
async def test_every_v1_route_needs_the_token(tower: Bench, method: str, route: str, header: str | None) -> None:
    """Without the token: 401 on every route and method, before anything is read."""
    async with httpx.AsyncClient(transport=tower.transport(), base_url="http://tower") as stranger:
        answer = await stranger.request(
            method, route.replace("{id}", "00" * 32), headers={"Authorization": header} if header else {}
        )

    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.asyncio
async def test_size_type_and_form_of_bodies(http: httpx.AsyncClient) -> None:
    """Too large, not JSON, not UTF-8, nested without end: typed refusals."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    large = await http.post("/v1/channels", content=b" " * 300_000, headers=JSON)
    assert_problem(large, 413, "too-large", "262144")
    assert_problem(await http.post("/v1/channels", content=endless(), headers=JSON), 413, "too-large")
    plain = {"Content-Type": "text/plain"}
    assert_problem(await http.post("/v1/channels", content=b"{}", headers=plain), 415, "unsupported-media-type")
    for raw in (b"", b"{", b"\xff\xfe{}", b'"\xff"', b"[" * 50_000, b'{"params":' * 20_000):
        assert_problem(await http.post("/v1/channels", content=raw, headers=JSON), 400, "malformed")


@pytest.mark.asyncio
async def test_a_body_that_does_not_arrive(tower: Bench) -> None:
    """A client that sends slowly is not waited for."""
    tower.limits = Limits(body_seconds=0.01)

    async def silent() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with tower.http() as http:
        answer = await http.post("/v1/channels", content=silent(), headers=JSON)

    assert_problem(answer, 408, "request-timeout", "did not arrive")


@pytest.mark.asyncio
async def test_unknown_addresses_methods_and_parameters(http: httpx.AsyncClient) -> None:
    """Also the framework's own refusals are problem documents."""
    assert_problem_without_detail(await http.get("/v2/channels"), 404, "not-found")
    refused = await http.delete("/v1/channels")
    assert_problem_without_detail(refused, 405, "method-not-allowed")
    assert {"GET", "HEAD", "POST"} >= set(refused.headers["Allow"].split(", ")) > set()
    assert_problem(await http.get("/v1/channels?limt=3"), 400, "malformed", "limt")
    assert_problem(await http.get("/v1/channels?limit=0"), 400, "malformed", "limit")
    assert_problem(await http.get("/v1/channels?limit=1e3"), 400, "malformed", "whole number")
    assert_problem(await http.get("/v1/channels?status=FINE"), 400, "malformed", "PROPOSED")


SERVICE_FAULTS: dict[str, tuple[Exception, int, str]] = {
    "busy": (StoreBusy("queue full"), 503, "store-busy"),
    "full": (StoreFull("/data/secret-path is full"), 507, "store-full"),
    "conflict": (StoreConflict("c123", 1, 2), 503, "conflict"),
    "bug": (ZeroDivisionError("secret detail"), 500, "internal"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", SERVICE_FAULTS)
async def test_faults_of_the_service(
    tower: Bench, http: httpx.AsyncClient, pair: Pair, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing store is 503 or 507 and can be tried again; nothing of the inside is shown."""
    error, status, slug = SERVICE_FAULTS[fault]
    tower.fund(pair)

    def fail(*_: object, **__: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(tower.store, "append", fail)
        answer = await post(http, "/v1/channels", pair.registration(Side.B))
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:state-channel:{slug}")
    assert "secret" not in answer.text
    assert (status == 503) == ("retry-after" in answer.headers)

    assert (await post(http, "/v1/channels", pair.registration(Side.B))).status_code == 201


@pytest.mark.asyncio
async def test_no_registration_without_its_secret(
    tower: Bench, http: httpx.AsyncClient, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the keystore cannot take the secret, the channel is not registered."""
    tower.fund(pair)

    def fail(*_: object) -> None:
        raise KeystoreError("/data/keystore could not be written")

    monkeypatch.setattr(tower.keystore, "put", fail)

    answer = await post(http, "/v1/channels", pair.registration(Side.B))

    assert_problem(answer, 503, "keystore-error", "nothing was registered")
    assert tower.store.last_id() == 1


@pytest.mark.asyncio
async def test_the_same_registration_repairs_a_lost_keystore(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A tower whose keystore was restored from an old copy gets the secret back by the owner's repetition."""
    tower.registered(pair)
    tower.keystore._secrets.clear()

    again = await post(http, "/v1/channels", pair.registration(Side.B))

    assert again.status_code == 200
    assert tower.keystore.get(pair.params.proposal_id) == pair.secrets(Side.B).rev


@pytest.mark.asyncio
async def test_an_ambiguous_beginning_is_not_guessed(
    tower: Bench, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two channels under one prefix: the refusal asks for more digits."""
    monkeypatch.setattr(finding, "SHORTEST", 1)
    names = [tower.registered(open_pair(names=(f"a{n}", f"b{n}"))) for n in range(17)]
    (digit, _), *_ = Counter(name[0] for name in names).most_common(1)

    answer = await http.get(f"/v1/channels/{digit}")

    assert_problem(answer, 404, "unknown-channel", "give more digits")


@pytest.mark.asyncio
async def test_a_node_that_does_not_answer(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A registration needs the node; states do not."""
    name = tower.registered(pair)
    pair.update()
    tower.node.is_down = True

    other = open_pair(names=("carol", "dave"))
    answer = await post(http, "/v1/channels", other.registration(Side.B))
    assert_problem(answer, 503, "node-unavailable", "try again")
    assert tower.keystore.get(other.params.proposal_id) is None
    stored = await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    assert stored.status_code == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("doubt", "slug", "words"),
    [
        (WrongChain("the node follows mainnet"), "wrong-chain", "follows another chain than the tower"),
        (NodeUnavailable("no node was reached"), "node-unavailable", "try again"),
    ],
)
async def test_a_node_that_is_not_the_right_one(
    tower: Bench, pair: Pair, doubt: WatchtowerError, slug: str, words: str
) -> None:
    """A registration says so instead of calling the funding unknown; nothing is stored, and a repetition works."""

    def doubted() -> None:
        raise doubt

    tower.fund(pair)
    tower.context = msgspec.structs.replace(tower.context, require_node=doubted)
    tower.services = bind(tower.context, lambda: tower.standing, version="1", network="regtest", tower_id=TOWER_ID)
    async with tower.http() as http:
        answer = await post(http, "/v1/channels", pair.registration(Side.B))
    assert_problem(answer, 503, slug, words)
    assert tower.store.last_id() == 1
    assert tower.keystore.get(pair.params.proposal_id) is None


@pytest.mark.asyncio
async def test_a_faster_writer_is_not_an_error(
    tower: Bench, http: httpx.AsyncClient, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conflict is decided again from the new state of the log."""
    name = tower.registered(pair)
    pair.update()
    append, conflicts = tower.store.append, iter([1, 1])

    def sometimes(job: Any, *, chain: bool = False) -> int:
        if next(conflicts, None):
            raise StoreConflict(job[0].stream, 1, 2)
        return append(job, chain=chain)

    monkeypatch.setattr(tower.store, "append", sometimes)

    answer = await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))

    assert answer.status_code == 200


@pytest.mark.asyncio
async def test_requests_are_measured_by_route_template(tower: Bench) -> None:
    """Labels never hold a path that a stranger chose."""
    seen: list[tuple[str, str, int]] = []
    app = create_app(
        tower.services,
        gate=tower.gate,
        observe=lambda method, route, status, seconds: seen.append((method, route, status)),
    )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://tower", headers=headers
    ) as client:
        await client.get(f"/v1/channels/{'00' * 32}")
        await client.get("/v1/channels/whatever/else/there/is")

    assert seen == [("GET", "/v1/channels/{id}", 404), ("GET", "unmatched", 404)]


def test_every_status_has_a_title() -> None:
    """The table of statuses and the table of titles belong together."""
    assert set(STATUS) - {"keystore-conflict"} <= set(TITLES)


def test_routes_are_the_metric_labels(tower: Bench) -> None:
    """`ROUTES` names exactly the addresses of the application."""
    paths = {route.path for route in tower.app.routes}

    assert paths == set(ROUTES)
