"""The HTTP API over the real use cases: answers, problem documents, and a store that bad input leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from domain.contract.receipts import SignedReceipt
from domain.contract.scripts import p2tr
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.support.calls import assert_problem, assert_problem_without_detail, post
from tests.support.parties import Pair, open_pair
from tests.support.towers import TIP, TOWER_ID, Bench
from watchtower.http.app import create_admin_app
from watchtower.http.services import Standing
from watchtower.store import views
from watchtower.wire.hexes import to_plain


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
@pytest.mark.parametrize("sorted_rows", [1, 1000])
async def test_pages_of_channels_and_of_a_timeline(
    tower: Bench, http: httpx.AsyncClient, sorted_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages follow each other without gap or overlap and load no more rows than they show; status filters."""
    monkeypatch.setattr(views, "_SORTED", sorted_rows)
    loaded: list[int] = []
    select = tower.rows._rows
    names = sorted(tower.registered(open_pair(names=(f"a{n}", f"b{n}"))) for n in range(5))

    def count(query: str, values: Any) -> Any:
        found = select(query, values)
        loaded.append(len(found))
        return found

    monkeypatch.setattr(tower.rows, "_rows", count)
    for asked in ("limit=2", "limit=2&status=ACTIVE"):
        found: list[str] = []
        after = ""
        while True:
            page = (await http.get(f"/v1/channels?{asked}{after}")).json()
            found += [each["channel_id"] for each in page["channels"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert sorted(found) == names

    assert max(loaded) == 3  # one more than shown tells that there is a next page
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
