"""The edge of the API: tokens, bodies, addresses, and what the tower cannot do just now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from domain.units import Side
from tests.support.calls import JSON, assert_problem, assert_problem_without_detail, post
from tests.support.parties import Pair, open_pair
from tests.support.towers import TOKEN, TOWER_ID, Bench
from watchtower.channels import finding
from watchtower.http.app import ROUTES, create_app
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.problems import STATUS, TITLES
from watchtower.http.routes import Limits
from watchtower.http.services import bind
from watchtower.keystore import KeystoreError
from watchtower.ports import NodeUnavailable, StoreBusy, StoreConflict, StoreFull, WatchtowerError, WrongChain


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
