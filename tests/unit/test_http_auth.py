"""Who may ask: tokens with scopes, and parties that sign their requests."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import httpx
import msgspec
import pytest
import pytest_asyncio
from starlette.requests import Request
from structlog.testing import capture_logs

from domain.contract import keys
from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.towers import TOKEN, TOWER_ID, Bench
from watchtower.access import ALL_SCOPES, AccessFile, AccessFileBroken, UnknownEntry
from watchtower.client.tower.request_signing import PartySigner
from watchtower.http import endpoints, routes
from watchtower.http.app import create_admin_app
from watchtower.http.services import Standing
from watchtower.wire.hexes import to_json

STRANGER = sha256(b"a stranger's key").digest()


@pytest.fixture
def pair() -> Pair:
    """A channel with state 0."""
    return open_pair()


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def signer(tower: Bench, secret: bytes) -> PartySigner:
    """Signs with this key and the tower's clock."""
    return PartySigner(secret, TOWER_ID, now=lambda: tower.clock.wall_microseconds() / 1e6)


@pytest_asyncio.fixture
async def owner(tower: Bench, pair: Pair) -> AsyncIterator[httpx.AsyncClient]:
    """B, who signs with the auth key of the channel."""
    async with party(tower, pair.secrets(Side.B).auth) as client:
        yield client


def party(tower: Bench, secret: bytes) -> httpx.AsyncClient:
    """A client without a token that signs."""
    return httpx.AsyncClient(transport=tower.transport(), base_url="http://tower", auth=signer(tower, secret))


def register(pair: Pair) -> dict[str, object]:
    """Arguments of the POST that registers B's side."""
    return {"content": to_json(pair.registration(Side.B)), "headers": {"Content-Type": "application/json"}}


def slug_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and slug of a problem."""
    return answer.status_code, answer.json()["type"].removeprefix("urn:state-channel:")


@pytest.mark.asyncio
async def test_a_token_may_do_what_its_scopes_say(tower: Bench) -> None:
    """A reader reads, but does not write, and is told which scope is missing."""
    token, _ = tower.access.create_token("reader", ("channels:read",), 1)
    async with tower.http() as http:
        http.headers["Authorization"] = f"Bearer {token}"
        read = await http.get("/v1/channels")
        written = await http.post("/v1/channels", json={})
        status = await http.get("/v1/info")

    assert 200 == read.status_code
    assert (403, "forbidden") == slug_of(written)
    assert (403, "forbidden") == slug_of(status)
    assert "channels:write" in written.json()["detail"]


@pytest.mark.asyncio
async def test_a_revoked_token_ends_at_once(tower: Bench) -> None:
    """Another process writes the file; the next request feels it."""
    token, entry = tower.access.create_token("short-lived", ("status:read",), 1)
    other_process = AccessFile(tower.access._path)
    async with tower.http() as http:
        http.headers["Authorization"] = f"Bearer {token}"
        before = await http.get("/v1/info")
        other_process.revoke_token(entry.id)
        after = await http.get("/v1/info")

    assert 200 == before.status_code
    assert (401, "unauthorized") == slug_of(after)


@pytest.mark.asyncio
async def test_a_damaged_file_lets_nobody_in(tower: Bench) -> None:
    """A file that cannot be read is the operator's to repair, not a reason to open; the log says so, once."""
    token, _ = tower.access.create_token("one", ("status:read",), 7)
    tower.access._path.write_text('{"tokens": [{"name": 1}]}')
    with capture_logs() as logs:
        async with tower.http() as http:
            owner = await http.get("/v1/info")
            http.headers["Authorization"] = f"Bearer {token}"
            answers = [await http.get("/v1/info") for _ in range(2)]

    assert 200 == owner.status_code  # his token is in the configuration
    assert [(503, "access-file")] * 2 == [slug_of(answer) for answer in answers]
    assert str(tower.access._path) not in answers[0].text
    said = [line for line in logs if line["event"] == "access_list_unreadable"]
    assert [(str(tower.access._path), "error")] == [
        (line["reason"].partition(" ")[0], line["log_level"]) for line in said
    ]


def test_the_file_keeps_hashes_only(tmp_path: Path) -> None:
    """The text of a token is nowhere in the file, which only its owner may read."""
    access = AccessFile(tmp_path / "access.json")
    token, entry = access.create_token("one", ("admin:write", "metrics:read"), 7)
    text = (tmp_path / "access.json").read_text()

    assert token not in text
    assert sha256(token.encode()).hexdigest() in text
    assert 0o600 == (tmp_path / "access.json").stat().st_mode & 0o777
    assert frozenset({"admin:write", "metrics:read"}) == access.scopes_of(token)
    assert access.scopes_of(token[:-1]) is None
    assert entry.sha256[:12] == entry.id


def test_names_that_fit_nobody_or_two(tmp_path: Path) -> None:
    """Nothing is revoked by guess."""
    access = AccessFile(tmp_path / "access.json")
    access.create_token("twin", ("status:read",), 1)
    access.create_token("twin", ("status:read",), 2)

    for name in ("nobody", "twin"):
        with pytest.raises(UnknownEntry, match=name):
            access.revoke_token(name)
    with pytest.raises(UnknownEntry):
        access.remove(STRANGER)
    assert 2 == len(access.table().tokens)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A data directory that is not there is told in a sentence."""
    with pytest.raises(AccessFileBroken, match="data directory"):
        AccessFile(tmp_path / "nowhere" / "access.json").create_token("x", ("status:read",), 1)


@pytest.mark.asyncio
async def test_metrics_behind_a_token(tower: Bench) -> None:
    """With `admin.require_token` the scrape needs the scope `metrics:read`."""
    token, _ = tower.access.create_token("prometheus", ("metrics:read",), 1)
    other, _ = tower.access.create_token("else", ("status:read",), 1)
    app = create_admin_app(lambda: b"up 1\n", tower.gate)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tower") as http:
        answers = [
            await http.get("/metrics", headers={"Authorization": f"Bearer {text}"}) for text in (token, other, "wt_no")
        ]
        answers.append(await http.get("/metrics"))

    assert [200, 403, 401, 401] == [answer.status_code for answer in answers]
    assert b"up 1\n" == answers[0].content


@pytest.mark.asyncio
async def test_a_party_registers_and_uses_its_own_channel(tower: Bench, pair: Pair, owner: httpx.AsyncClient) -> None:
    """An allowed party needs no token for anything of its channel."""
    tower.fund(pair)
    refused = await owner.post("/v1/channels", **register(pair))  # type: ignore[arg-type]
    tower.access.allow(keys.xonly(keys.public_key(pair.secrets(Side.B).auth)), "Bob", 1)
    created = await owner.post("/v1/channels", **register(pair))  # type: ignore[arg-type]
    tower.confirm(pair)
    name = pair.channel_id.hex()
    pair.update()
    body = {"content": to_json(pair.update_request(Side.B, 1)), "headers": {"Content-Type": "application/json"}}
    stored = await owner.post(f"/v1/channels/{name}/states", **body)  # type: ignore[arg-type]
    timeline = await owner.get(f"/v1/channels/{name}/timeline?limit=1&after=0")

    assert (403, "forbidden") == slug_of(refused)
    assert "watchtower client allow" in refused.json()["detail"]
    assert (201, 200, 200) == (created.status_code, stored.status_code, timeline.status_code)
    assert [name] == [each["channel_id"] for each in (await owner.get("/v1/channels")).json()["channels"]]
    assert 200 == (await owner.get("/v1/info")).status_code


@pytest.mark.asyncio
async def test_a_removed_party_keeps_its_channel(tower: Bench, pair: Pair, owner: httpx.AsyncClient) -> None:
    """What is registered stays its owner's: it may be read and the registration repeated."""
    tower.registered(pair)
    again = await owner.post("/v1/channels", **register(pair))  # type: ignore[arg-type]

    assert 200 == again.status_code
    assert 200 == (await owner.get(f"/v1/channels/{pair.channel_id.hex()}")).status_code


@pytest.mark.asyncio
async def test_a_stranger_sees_nothing(tower: Bench, pair: Pair) -> None:
    """Somebody else's channel looks like none; not even the counterparty may ask its opponent's tower."""
    name = tower.registered(pair)
    absent = "00" * 32
    for secret in (STRANGER, pair.secrets(Side.A).auth):
        async with party(tower, secret) as other:
            answers = [await other.get(f"/v1/channels/{each}") for each in (name, absent, name[:8])]
            listed = await other.get("/v1/channels")
            registered = await other.post("/v1/channels", **register(pair))  # type: ignore[arg-type]

        assert [(404, "unknown-channel")] * 3 == [slug_of(answer) for answer in answers]
        assert 1 == len({answer.json()["detail"] for answer in answers})
        assert [] == listed.json()["channels"]
        assert (403, "forbidden") == slug_of(registered)


@pytest.mark.asyncio
async def test_a_prefix_is_not_enough_for_a_party(tower: Bench, pair: Pair, owner: httpx.AsyncClient) -> None:
    """The answer to a beginning would tell what else begins like this."""
    name = tower.registered(pair)

    assert (404, "unknown-channel") == slug_of(await owner.get(f"/v1/channels/{name[:10]}"))


@pytest.mark.asyncio
async def test_a_signed_request_is_good_once(tower: Bench, pair: Pair) -> None:
    """The same bytes again are refused, also after a while, until they are too old anyway."""
    tower.registered(pair)
    request = httpx.Request("GET", "http://tower/v1/info")
    signer(tower, pair.secrets(Side.B).auth).sign(request)
    async with httpx.AsyncClient(transport=tower.transport()) as plain:
        first, second = await plain.send(request), await plain.send(request)
        tower.clock.forward(59)
        third = await plain.send(request)
        tower.clock.forward(2)
        fourth = await plain.send(request)

    assert 200 == first.status_code
    assert [(401, "unauthorized")] * 2 == [slug_of(second), slug_of(third)]
    assert (401, "clock-skew") == slug_of(fourth)
    assert 1_700_000_061 == fourth.json()["time"]


@pytest.mark.asyncio
async def test_every_part_of_a_request_is_signed(tower: Bench, pair: Pair) -> None:
    """Another method, path, query, body, time, nonce, key or tower: the signature does not fit."""
    tower.registered(pair)
    secret = pair.secrets(Side.B).auth
    good = httpx.Request("POST", "http://tower/v1/channels?a=1", content=b"{}")
    signer(tower, secret).sign(good)
    elsewhere = httpx.Request("POST", "http://tower/v1/channels?a=1", content=b"{}")
    PartySigner(secret, keys.xonly(keys.public_key(STRANGER)), now=lambda: 1_700_000_000).sign(elsewhere)
    lines = good.headers["Signature-Input"]
    changed = [
        httpx.Request("PUT", good.url, content=b"{}", headers=good.headers),
        httpx.Request("POST", "http://tower/v1/channels?a=2", content=b"{}", headers=good.headers),
        httpx.Request("POST", "http://tower/v1/channels", content=b"{}", headers=good.headers),
        httpx.Request("POST", good.url, content=b"{ ", headers=good.headers),
        elsewhere,
    ]
    for pattern, other in (
        (r"created=\d+", "created=1700000001"),
        (r'nonce="[0-9a-f]+', 'nonce="' + "5a" * (len(re.findall(r'nonce="([0-9a-f]+)', lines)[0]) // 2)),
        (r'keyid="..', 'keyid="00'),
    ):
        altered = dict(good.headers) | {"signature-input": re.sub(pattern, other, lines)}
        changed.append(httpx.Request("POST", good.url, content=b"{}", headers=altered))
    async with httpx.AsyncClient(transport=tower.transport()) as plain:
        for request in changed:
            request.headers["Content-Type"] = "application/json"
        answers = [await plain.send(request) for request in changed]

    assert [405, *[401] * (len(changed) - 1)] == [answer.status_code for answer in answers]


@pytest.mark.asyncio
async def test_a_wrong_clock_is_corrected_once(tower: Bench, pair: Pair) -> None:
    """The refusal tells the tower's time, and the signer uses it from then on."""
    tower.registered(pair)
    slow = PartySigner(pair.secrets(Side.B).auth, TOWER_ID, now=lambda: 1_700_000_000 - 3_600)
    async with httpx.AsyncClient(transport=tower.transport(), base_url="http://tower", auth=slow) as client:
        answers = [await client.get("/v1/info"), await client.get("/v1/info")]

    assert [200, 200] == [answer.status_code for answer in answers]


@pytest.mark.asyncio
async def test_either_a_token_or_a_signature(tower: Bench, pair: Pair, owner: httpx.AsyncClient) -> None:
    """Two credentials would leave open who asked."""
    tower.registered(pair)

    both = await owner.get("/v1/info", headers={"Authorization": f"Bearer {TOKEN}"})

    assert (401, "unauthorized") == slug_of(both)


@pytest.mark.asyncio
async def test_operator_addresses_take_no_party(tower: Bench, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is for tokens only unless its row says otherwise or it names a channel."""
    row = next(row for row in endpoints.ENDPOINTS if row.name == "list_channels")
    monkeypatch.setattr(routes, "ENDPOINTS", (msgspec.structs.replace(row, parties=False),))

    async with party(tower, pair.secrets(Side.B).auth) as client:
        answer = await client.get("/v1/channels")

    assert (403, "forbidden") == slug_of(answer)


def test_the_first_token_may_do_everything(tower: Bench) -> None:
    """The token of `watchtower init` works as before scopes existed."""
    request = Request({"type": "http", "headers": [(b"authorization", f"Bearer {TOKEN}".encode())]})

    assert ALL_SCOPES == tower.gate.token_only(request).scopes
    assert json.loads('{"tokens": [], "parties": []}') == json.loads(to_json(tower.access.table()))


@pytest.mark.asyncio
async def test_the_tower_tells_parties_and_passers_by_less(tower: Bench, pair: Pair) -> None:
    """Addresses and files, and the totals of the tower, are for the operator; a party hears of its own channels."""
    tower.registered(pair)
    where = "node_unreachable: no answer from 10.1.2.3:8332"
    tower.standing = Standing(True, False, "degraded", ("node_unreachable: no answer",), details=(where,))

    clients = tower.http(), party(tower, pair.secrets(Side.B).auth), party(tower, STRANGER)
    told = [(await http.get("/v1/info")).json() for http in clients]
    ready = (await clients[-1].get("/readyz")).json()

    assert [(1, 1_000_000), (1, 1_000_000), (0, 0)] == [(info["channels"], info["capacity"]) for info in told]
    assert [[where], *[["node_unreachable: no answer"]] * 3] == [info["reasons"] for info in (*told, ready)]


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/v1/channels/", "/v1/info/", "//v1/channels"])
async def test_other_spellings_of_an_address_are_not_found(tower: Bench, path: str) -> None:
    """No redirect: it would tell the address to whoever chose the Host header, and a signature is for one path."""
    async with tower.http() as http:
        answer = await http.get(path)

    assert (404, "not-found") == slug_of(answer)


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PUT"])
async def test_no_method_gets_around_the_signature(tower: Bench, pair: Pair, method: str) -> None:
    """HEAD asks for the same key as GET, and there are no other methods."""
    name = tower.registered(pair)
    async with httpx.AsyncClient(transport=tower.transport(), base_url="http://tower") as nobody:
        unsigned = await nobody.request(method, f"/v1/channels/{name}")
    owned = await party(tower, pair.secrets(Side.B).auth).request(method, f"/v1/channels/{name}")
    foreign = await party(tower, STRANGER).request(method, f"/v1/channels/{name}")

    expected = (401, 200, 404) if method == "HEAD" else (405, 405, 405)
    assert expected == (unsigned.status_code, owned.status_code, foreign.status_code)


@pytest.mark.asyncio
async def test_a_request_is_good_once_up_to_the_last_moment(tower: Bench, pair: Pair) -> None:
    """Signed a minute ahead of the tower's clock it is timely for two minutes, and still known at their very end."""
    request = httpx.Request("GET", "http://tower/v1/info")
    PartySigner(pair.secrets(Side.B).auth, TOWER_ID, now=lambda: 1_700_000_060).sign(request)
    async with httpx.AsyncClient(transport=tower.transport()) as plain:
        first = await plain.send(request)
        tower.clock.forward(120)
        second = await plain.send(request)

    assert 200 == first.status_code
    assert 401 == second.status_code
    assert "was received before" in second.json()["detail"]


@pytest.mark.asyncio
async def test_strangers_do_not_use_up_the_memory_for_owners(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests of made-up keys fill their room; who owns a channel, or was allowed to register one, gets in."""
    monkeypatch.setattr("watchtower.http.auth.STRANGERS", 3)
    bench, allowed = Bench(tmp_path), sha256(b"allowed").digest()
    name = bench.registered(pair)
    bench.access.allow(keys.xonly(keys.public_key(allowed)), "a party", 1)
    owner = party(bench, pair.secrets(Side.B).auth)
    early = await owner.get(f"/v1/channels/{name}")

    crowd = [await party(bench, sha256(b"%d" % number).digest()).get("/v1/info") for number in range(4)]
    late, other = await owner.get(f"/v1/channels/{name}"), await party(bench, allowed).get("/v1/info")

    assert [200, 200, 503, 503] == [answer.status_code for answer in crowd]
    assert [200, 200, 200] == [answer.status_code for answer in (early, late, other)]


@pytest.mark.asyncio
async def test_an_owner_comes_back_through_a_crowd_of_strangers(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart nobody is known: an owner is looked up when the room of strangers is full."""
    monkeypatch.setattr("watchtower.http.auth.STRANGERS", 2)
    bench = Bench(tmp_path)
    name = bench.registered(pair)
    crowd = [await party(bench, sha256(b"%d" % number).digest()).get("/v1/info") for number in range(3)]
    back = await party(bench, pair.secrets(Side.B).auth).get(f"/v1/channels/{name}")

    assert [200, 200, 503] == [answer.status_code for answer in crowd]
    assert 200 == back.status_code


@pytest.mark.asyncio
async def test_a_request_is_good_once_when_its_key_becomes_known(tower: Bench, pair: Pair) -> None:
    """A stranger's first request makes it an owner; the same bytes are remembered all the same."""
    name = tower.registered(pair)
    request = httpx.Request("GET", f"http://tower/v1/channels/{name}")
    signer(tower, pair.secrets(Side.B).auth).sign(request)
    async with httpx.AsyncClient(transport=tower.transport()) as http:
        answers = [await http.send(request) for _ in range(2)]

    assert [200, 401] == [answer.status_code for answer in answers]
