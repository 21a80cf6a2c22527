"""Who sees the status page, under which names, and what nobody can do with it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
import pytest_asyncio

from domain.units import Side
from tests.support.scenes import Scene
from tests.support.status_towers import PageBench
from tests.support.towers import TOKEN
from watchtower.web.guard import COOKIE, host_name, is_loopback
from watchtower.web.sessions import CAPACITY, LIFETIME, Sessions

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7919*7907 }}"
PAGES = ("/", "/channels", "/channels?search=abcd", "/channels/" + "0" * 64, "/assets/live.js", "/v1/widgets/status")


@pytest.fixture
def open_tower(tmp_path: Path) -> PageBench:
    """The page on loopback, for everybody there."""
    made = PageBench(tmp_path)
    made.watching()
    return made


@pytest_asyncio.fixture
async def visitor(open_tower: PageBench) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody on the tower's own machine."""
    async with open_tower.visitor() as client:
        yield client


@pytest.fixture
def shut_tower(tmp_path: Path) -> PageBench:
    """The page on an address of the network: it asks for a token."""
    made = PageBench(tmp_path, listen="0.0.0.0:9816", page_names="tower.lan")
    made.watching()
    return made


@pytest_asyncio.fixture
async def stranger(shut_tower: PageBench) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody in the network, without a token."""
    async with shut_tower.visitor("tower.lan:9816") as client:
        yield client


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [*PAGES, "/metrics", "/nowhere"])
@pytest.mark.asyncio
async def test_every_answer_carries_the_headers(visitor: httpx.AsyncClient, path: str) -> None:
    """Nothing may be framed, sniffed, kept or told to others, and only own scripts and styles are used."""
    answer = await visitor.get(path)

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert ("nosniff", "no-referrer", "DENY") == tuple(
        answer.headers[name] for name in ("x-content-type-options", "referrer-policy", "x-frame-options")
    )
    assert answer.headers["cache-control"] in ("no-store", "no-cache")


@pytest.mark.parametrize("path", PAGES[:4])
@pytest.mark.asyncio
async def test_pages_hold_nothing_that_the_policy_forbids(visitor: httpx.AsyncClient, path: str) -> None:
    """No inline script, handler or style, and nothing from another place."""
    page = (await visitor.get(path)).text

    assert [] == re.findall(r"<script(?![^>]* src=\"/assets/)|\son[a-z]+=|\sstyle=|<style|javascript:", page)
    assert [] == re.findall(r"(?:src|href|action)=\"(?!/|#)", page)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.asyncio
async def test_the_page_only_reads(visitor: httpx.AsyncClient, method: str) -> None:
    """Whatever would change something is refused, at every address."""
    paths = ("/", "/channels", "/channels/00", "/events", "/v1/widgets/status", "/metrics", "/assets/live.js")

    assert {405} == {(await visitor.request(method, path)).status_code for path in paths}


@pytest.mark.asyncio
async def test_head_has_no_body(visitor: httpx.AsyncClient) -> None:
    """As GET, without what is shown."""
    answer = await visitor.head("/")

    assert (200, b"") == (answer.status_code, answer.content)
    assert 200 == (await visitor.head("/events")).status_code


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9816", "127.0.0.1:9816", "[::1]:9816", "192.168.1.5"])
@pytest.mark.asyncio
async def test_own_names_are_answered(open_tower: PageBench, host: str) -> None:
    """Localhost, and addresses: nobody can make those point elsewhere."""
    async with open_tower.visitor() as visitor:
        assert 200 == (await visitor.get("/", headers={"Host": host})).status_code


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "tower.lan@evil.example", "*"],
)
@pytest.mark.asyncio
async def test_a_name_that_was_pointed_here_is_refused(visitor: httpx.AsyncClient, host: str) -> None:
    """A site whose name leads to this host learns nothing, not even that there is a page."""
    paths = ("/", "/events", "/v1/widgets/status", "/assets/live.js", "/nowhere")
    answers = [await visitor.get(path, headers={"Host": host}) for path in paths]

    assert {403} == {answer.status_code for answer in answers}
    assert all("admin.page_names" in answer.json()["detail"] for answer in answers)
    assert not any("evil" in answer.text for answer in answers)


@pytest.mark.asyncio
async def test_metrics_are_scraped_under_any_name(visitor: httpx.AsyncClient) -> None:
    """Prometheus knows the tower by the name of its container."""
    assert 200 == (await visitor.get("/metrics", headers={"Host": "tower:9816"})).status_code


@pytest.mark.asyncio
async def test_any_name_behind_a_platform(tmp_path: Path) -> None:
    """A star takes all names, for a proxy that asks who its users are."""
    tower = PageBench(tmp_path, listen="0.0.0.0:9816", page="open", page_names="*")

    async with tower.visitor("umbrel.local:9816") as visitor:
        assert 200 == (await visitor.get("/")).status_code


@pytest.mark.parametrize(
    ("host", "name"),
    [("a.b:1", "a.b"), ("A.b.", "a.b"), ("[::1]:5", "::1"), ("x@y", "y"), ("a:b:c", "a"), ("[", ""), ("", "")],
)
def test_host_names(host: str, name: str) -> None:
    """The name behind all that may stand around it."""
    assert name == host_name(host)


def test_which_listeners_are_for_this_host_only() -> None:
    """An address that others reach asks for a token."""
    hosts = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "tower.lan")

    assert [True, True, True, False, False, False, False] == [is_loopback(host) for host in hosts]


@pytest.mark.asyncio
async def test_the_page_can_be_switched_off(tmp_path: Path) -> None:
    """Then this listener has metrics and health only."""
    async with PageBench(tmp_path, page="off").visitor() as visitor:
        assert [404, 404, 200, 200] == [
            (await visitor.get(path)).status_code for path in ("/", "/v1/widgets/status", "/metrics", "/healthz")
        ]


# ── tokens and sessions ──────────────────────────────────────────────────────────────────────────────────


async def logged_in(client: httpx.AsyncClient, token: str, **headers: str) -> httpx.Response:
    """The answer to the form of the door."""
    return await client.post("/login", data={"token": token}, headers=headers)


@pytest.mark.asyncio
async def test_a_stranger_sees_the_door_only(stranger: httpx.AsyncClient) -> None:
    """Pages lead to the form, programs get a problem, and neither tells anything about the tower."""
    page = await stranger.get("/")

    assert (303, "/login") == (page.status_code, page.headers["location"])
    assert [401, 401] == [(await stranger.get(path)).status_code for path in ("/events", "/v1/widgets/status")]
    assert "regtest" not in (await stranger.get("/login")).text


@pytest.mark.asyncio
async def test_a_token_opens_a_session(shut_tower: PageBench, stranger: httpx.AsyncClient) -> None:
    """The cookie is for this site and not for scripts, and holds no token."""
    token, _ = shut_tower.bench.access.create_token("page", ("status:read",), 1)

    answer = await logged_in(stranger, token)

    cookie = answer.headers["set-cookie"]
    assert (303, "/") == (answer.status_code, answer.headers["location"])
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert token not in cookie
    assert 200 == (await stranger.get("/")).status_code
    assert 200 == (await stranger.get("/v1/widgets/status")).status_code


@pytest.mark.asyncio
async def test_a_revoked_token_ends_its_sessions(shut_tower: PageBench, stranger: httpx.AsyncClient) -> None:
    """At once, not after the session's time."""
    token, entry = shut_tower.bench.access.create_token("page", ("status:read",), 1)
    await logged_in(stranger, token)

    shut_tower.bench.access.revoke_token(entry.id)

    assert (303, 401) == tuple([(await stranger.get(path)).status_code for path in ("/", "/v1/widgets/status")])


@pytest.mark.parametrize(
    "token", ["", "wt_wrong", "x" * 600, "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")]
)
@pytest.mark.asyncio
async def test_what_is_no_token_opens_nothing(stranger: httpx.AsyncClient, token: str) -> None:
    """The door says no and sets no cookie; what was typed is not shown again."""
    answer = await logged_in(stranger, token)

    assert 401 == answer.status_code
    assert "set-cookie" not in answer.headers
    assert "wrong" not in answer.text


@pytest.mark.asyncio
async def test_a_token_for_something_else_opens_nothing(shut_tower: PageBench, stranger: httpx.AsyncClient) -> None:
    """Reading metrics is not reading the status."""
    token, _ = shut_tower.bench.access.create_token("prometheus", ("metrics:read",), 1)

    assert "this needs a token with the scope status:read" in (await logged_in(stranger, token)).text
    with_header = await stranger.get("/v1/widgets/status", headers={"Authorization": f"Bearer {token}"})
    assert 403 == with_header.status_code


@pytest.mark.asyncio
async def test_programs_send_the_token_itself(stranger: httpx.AsyncClient) -> None:
    """For widgets and scripts, no session is needed."""
    assert 200 == (await stranger.get("/", headers={"Authorization": f"Bearer {TOKEN}"})).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.asyncio
async def test_forms_of_other_sites_are_refused(stranger: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Nobody else's page can log a visitor in or out."""
    assert 403 == (await logged_in(stranger, TOKEN, **headers)).status_code
    assert 403 == (await stranger.post("/logout", headers=headers)).status_code


@pytest.mark.asyncio
async def test_own_forms_are_taken(stranger: httpx.AsyncClient) -> None:
    """What a browser says about the page's own form, and the end of the session."""
    headers = {"Origin": "http://tower.lan:9816", "Sec-Fetch-Site": "same-origin"}
    assert 303 == (await logged_in(stranger, TOKEN, **headers)).status_code
    assert 200 == (await stranger.get("/")).status_code

    await stranger.post("/logout", headers=headers)
    assert 303 == (await stranger.get("/")).status_code


@pytest.mark.asyncio
async def test_a_form_of_somebody_else_is_refused(stranger: httpx.AsyncClient) -> None:
    """More fields than the door has are a bad request, no fault of the tower."""
    answer = await stranger.post("/login", content=b"&".join([b"token=x"] * 9))

    assert (400, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


@pytest.mark.asyncio
async def test_one_address_may_not_try_without_end(shut_tower: PageBench) -> None:
    """Ten attempts at once, then it waits; another address and this host itself do not."""

    async def attempts(host: str, count: int) -> list[int]:
        transport = httpx.ASGITransport(shut_tower.app, client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [(await logged_in(client, "wt_guess")).status_code for _ in range(count)]

    tried = await attempts("203.0.113.5", 12)

    assert ([401] * 10, [429] * 2) == (tried[:10], tried[10:])
    assert [401] == await attempts("203.0.113.6", 1)
    assert {401} == set(await attempts("127.0.0.1", 12))


@pytest.mark.asyncio
async def test_a_long_form_is_refused(stranger: httpx.AsyncClient) -> None:
    """Only a token fits."""
    assert 413 == (await stranger.post("/login", content=b"token=" + b"x" * 5_000)).status_code


def test_sessions_end_and_are_bounded() -> None:
    """After twelve hours, and the oldest one when there are too many; an unknown name is nobody's."""
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    digest = Sessions.digest("wt_x")
    first = sessions.open(digest)
    others = [sessions.open(digest) for _ in range(CAPACITY)]

    assert sessions.token_sha256(first) is None
    assert digest == sessions.token_sha256(others[0])
    assert sessions.token_sha256("x" * 1_000) is None
    assert sessions.token_sha256("\udcff") is None
    now[0] = LIFETIME + 1
    assert sessions.token_sha256(others[0]) is None


# ── what others chose ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_hostile_texts_stay_texts(open_tower: PageBench) -> None:
    """Notes, a node's words, alerts, searches: nothing of them becomes markup or is run as a template."""
    scene = Scene(Side.A).opened(1)
    open_tower.bench.store.append(scene.events)
    open_tower.bench.catch_up()
    open_tower.bench.access.allow(scene.params.keys_a.auth, HOSTILE, 1)
    open_tower.board.set("node_unreachable", HOSTILE)
    table = open_tower.bench.rows
    table.replace("UPDATE channel_info SET open_alerts = ?, status = ?", [(HOSTILE, HOSTILE)])
    channel = f"/channels/{scene.params.channel_id.hex()}"
    open_tower.changed(version=HOSTILE, network=HOSTILE, address=HOSTILE, topics=("sequence",))

    async with open_tower.visitor() as visitor:
        pages = [
            (await visitor.get(path, params=query)).text
            for path, query in (
                ("/", {}),
                ("/channels", {"search": HOSTILE}),
                ("/channels", {"status": HOSTILE}),
                (channel, {}),
            )
        ]

    for page in pages:
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page
        assert "{{ 7919*7907 }}" in page
        assert "62615533" not in page  # a shorter product may be in the free bytes of the disk


@pytest.mark.asyncio
async def test_hostile_searches_reach_no_database(visitor: httpx.AsyncClient) -> None:
    """Quotes and commands are text that nothing begins with."""
    for search in ("' OR 1=1 --", '"; DROP TABLE channel_info; --', "%", "\x00", "é" * 500, "0x" + "f" * 60):
        answer = await visitor.get("/channels", params={"search": search})
        assert (200, True) == (answer.status_code, "Search for hexadecimal digits" in answer.text)


@pytest.mark.parametrize(
    "query", ["after=%27", "after=9.9", "after=9.9&status=ACTIVE", "after=99999999999999999.1&status=ACTIVE"]
)
@pytest.mark.asyncio
async def test_places_that_nobody_gave_are_beginnings(visitor: httpx.AsyncClient, query: str) -> None:
    """A link that was changed by hand is no error."""
    assert 200 == (await visitor.get(f"/channels?{query}")).status_code


@pytest.mark.asyncio
async def test_an_unreadable_list_of_tokens_lets_nobody_in(shut_tower: PageBench, stranger: httpx.AsyncClient) -> None:
    """And the page of a tower on loopback says that the list cannot be read."""
    (Path(shut_tower.settings.data_dir) / "access.json").write_text("{")

    answer = await stranger.get("/", headers={"Authorization": "Bearer wt_other"})

    assert 503 == answer.status_code


def test_the_cookie_has_a_name_of_its_own() -> None:
    """Cookies of a host are shared by all its ports."""
    assert COOKIE.startswith("watchtower")
    assert msgspec.json.encode(COOKIE) == b'"watchtower_session"'
