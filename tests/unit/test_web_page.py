"""What the status page says, asked as a browser asks, over towers without node and process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from jinja2 import UndefinedError
from msgspec.structs import replace

from domain.chain import display
from domain.events import BroadcastOutcome, Via
from domain.punishing import penalty_answered, penalty_prepared
from domain.units import Side
from tests.support.scenes import FUNDED_AT, NOW, Scene, block
from tests.support.status_towers import START, PageBench
from tests.support.towers import TOWER_ID
from watchtower.web.render import Renderer
from watchtower.web.words import short

DEADLINE = 200 + 144 - 1


class _Texts(HTMLParser):
    """Words of a page by the value of `data-live` of the part that they stand in, and of everything under ""."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {"": []}
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(dict(attrs).get("data-live") or "")

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in {"", *self._open}:
            self.found.setdefault(name, []).append(data)


def texts(page: str) -> dict[str, str]:
    """The words of each part, blanks made one."""
    parser = _Texts()
    parser.feed(page)
    return {name: " ".join(" ".join(parts).split()) for name, parts in parser.found.items()}


@pytest.fixture
def tower(tmp_path: Path) -> PageBench:
    """A tower that watches and has no channel."""
    made = PageBench(tmp_path)
    made.watching()
    return made


@pytest_asyncio.fixture
async def visitor(tower: PageBench) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody on the tower's own machine."""
    async with tower.visitor() as client:
        yield client


def stored(tower: PageBench, scene: Scene) -> None:
    """Write what the scene has beyond the log into the log, and bring the views up to date."""
    known = tower.bench.store.version(scene.events[0].stream)
    if scene.events[known:]:
        tower.bench.store.append(scene.events[known:])
    tower.bench.catch_up()


@pytest.fixture
def scene(tower: PageBench) -> Scene:
    """A channel of A with three states."""
    made = Scene(Side.A).opened(3)
    stored(tower, made)
    return made


async def home(visitor: httpx.AsyncClient) -> dict[str, str]:
    """The parts of the front page."""
    answer = await visitor.get("/")
    assert answer.status_code == 200
    return texts(answer.text)


# ── am I protected? ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_first_line_answers_in_words(tower: PageBench, visitor: httpx.AsyncClient, scene: Scene) -> None:
    """With proof that it watches, the tower says yes and what it protects."""
    parts = await home(visitor)

    assert parts["verdict"].startswith(
        "Am I protected? Yes. 1 channel with 1,000,000 sat is protected: every block and the mempool are watched."
    )
    assert (
        "Phase watching Block 200 Behind the node nothing Detection last proved not since the start"
        in (parts["verdict"])
    )


@pytest.mark.asyncio
async def test_a_lost_node_is_a_no(tower: PageBench, visitor: httpx.AsyncClient, scene: Scene) -> None:
    """Nothing else can make it a yes, and the page says what to do."""
    tower.board.set("node_unreachable", "connection refused")

    parts = await home(visitor)

    assert parts["verdict"].startswith("Am I protected? No. A breach could go unseen now. The node does not answer.")
    assert "node_unreachable , keeps the tower from watching: connection refused" in parts["findings"]


@pytest.mark.asyncio
async def test_a_finding_that_does_not_stop_it_is_a_yes_with_a_look(
    tower: PageBench, visitor: httpx.AsyncClient, scene: Scene
) -> None:
    """A weaker protection is neither hidden nor called none."""
    tower.board.set("zmq_silent", "")

    assert (await home(visitor))["verdict"].startswith("Am I protected? Yes, but look.")


@pytest.mark.asyncio
async def test_order_of_the_page(visitor: httpx.AsyncClient, scene: Scene) -> None:
    """Protection, node, breaches, events, channels, clients, disk, address, version: as an operator asks."""
    whole = (await home(visitor))[""]

    titles = (
        "Am I protected?",
        "Node and ZMQ",
        "Open breaches",
        "What happened last",
        "Find a channel",
        "Clients and limits",
        "Disk and backup",
        "Connect a client",
        "Version 1.2.3",
    )
    places = [whole.index(title) for title in titles]
    assert sorted(places) == places


# ── node, disk, clients, address ─────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_node_and_zmq(tower: PageBench, visitor: httpx.AsyncClient) -> None:
    """Heights, and per topic whether it is connected, was heard, and missed something."""
    tower.metrics.set("node_up", value=1)
    tower.metrics.set("node_blocks", value=200)
    tower.metrics.set("zmq_connected", "sequence", value=1)
    tower.metrics.set("zmq_last_message_timestamp_seconds", "sequence", value=tower.sources.now() - 60)
    tower.metrics.count("zmq_missed_messages_total", "sequence", by=2)

    node = (await home(visitor))["node"]

    assert "node answers Blocks 200 Headers not known" in node
    assert "sequence connected, last message 1 minute ago , 2 messages missed" in node
    assert "rawtx not connected, no message since the start" in node


@pytest.mark.asyncio
async def test_the_canary_counts_from_the_start_on(tower: PageBench, visitor: httpx.AsyncClient) -> None:
    """The gauge stands at the start of the process: that is no proof."""
    assert "Detection last proved not since the start" in (await home(visitor))["verdict"]

    tower.metrics.set("canary_last_success_timestamp_seconds", value=max(START + 1, tower.sources.now() - 120))
    assert "Detection last proved 2 minutes ago" in (await home(visitor))["verdict"]


@pytest.mark.asyncio
async def test_late_backups_are_told(tower: PageBench) -> None:
    """How old the last good one is, and how many failed."""
    tower.changed(backup_hours=24.0)
    tower.metrics.set("backup_last_success_timestamp_seconds", value=tower.sources.now() - 3 * 86_400)
    tower.metrics.count("backup_failures_total", by=3)

    async with tower.visitor() as visitor:
        answer = await visitor.get("/")

    assert "Last good backup 3 days ago Failed backups 3" in texts(answer.text)["storage"]
    assert '<div class="fact tone-watch"><dt>Last good backup' in answer.text


@pytest.mark.asyncio
async def test_clients_and_limits(tower: PageBench, scene: Scene) -> None:
    """Who has channels, with the operator's note, and how much of the limits is used."""
    key = scene.params.keys_a.auth
    tower.bench.access.allow(key, "Alice's shop", 1)
    tower.settings = replace(tower.settings, policy=replace(tower.settings.policy, max_channels=50))

    async with tower.visitor() as visitor:
        clients = (await home(visitor))["clients"]
        tower.settings = replace(tower.settings, policy=replace(tower.settings.policy, max_channels=70))
        reloaded = (await home(visitor))["clients"]

    assert "Channels 1 of 70" in reloaded
    assert "Clients with channels 1 May register 1 on the list Channels 1 of 50" in clients
    assert f"{short(key.hex())} Alice's shop 1" in clients


@pytest.mark.asyncio
async def test_the_address_and_its_description(visitor: httpx.AsyncClient) -> None:
    """What a client needs, also as a QR code, and the API's own description."""
    answer = await visitor.get("/")

    assert f"{TOWER_ID.hex()}@tower.example:9815" in texts(answer.text)[""]
    assert '<svg class="qr"' in answer.text
    assert (await visitor.get("/openapi.json")).json()["openapi"].startswith("3.1")


@pytest.mark.asyncio
async def test_health_stands_on_this_listener_too(tower: PageBench, visitor: httpx.AsyncClient) -> None:
    """For probes that reach only the operator's port."""
    assert {"alive": True} == (await visitor.get("/healthz")).json()
    assert (await visitor.get("/readyz")).json()["watching"] is True


# ── breaches ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_breach_in_the_mempool(tower: PageBench, visitor: httpx.AsyncClient, scene: Scene) -> None:
    """It has no deadline yet, and the page says what is being done."""
    scene.seen(scene.commitment(Side.B, 1))
    stored(tower, scene)

    parts = await home(visitor)

    assert parts["verdict"].startswith("Am I protected? Defending. A breach is being answered.")
    assert "not in a block yet Seen and stored. The penalty is being prepared" in parts["breaches"]
    assert "Revoked state 1, by B Seen in the mempool" in parts["breaches"]


@pytest.mark.asyncio
async def test_the_countdown_of_a_breach(tower: PageBench, scene: Scene) -> None:
    """Blocks left and about how long that is, the amount, both transactions, and the bid."""
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    penalty = scene.penalty(Side.B, 1)
    spend = scene.channel.present_spend
    assert spend is not None
    raw = penalty.serialize()
    scene.then(penalty_prepared(scene.channel, spend, txid=penalty.txid, raw=raw, fee=1_110, left=143, now=NOW))
    scene.then(penalty_answered(scene.channel.bids[0], BroadcastOutcome.ACCEPTED, Via.RAW, 0, "", 200, NOW))
    stored(tower, scene)
    tower.tip = 205
    tower.changed(network="mainnet")

    async with tower.visitor() as visitor:
        breaches = (await home(visitor))["breaches"]
        page = texts((await visitor.get(f"/channels/{_id(scene)}/breaches/{display(stale.txid)}")).text)["breach"]

    assert f"{DEADLINE - 205} blocks left about 23 hours at ten minutes a block" in breaches
    assert f"Deadline block {DEADLINE} Revoked state 1, by B Seen in block 200" in breaches
    assert "The penalty is in the mempool and waits for a block." in breaches
    assert "Fee of the penalty 1,110 sat Feerate 10.0 sat/vB, bid 1" in breaches
    assert f"Commitment {display(stale.txid)} Penalty {display(penalty.txid)}" in breaches
    assert f"{DEADLINE - 205} blocks left" in page


@pytest.mark.asyncio
async def test_a_deadline_that_passed_is_called_so(tower: PageBench, visitor: httpx.AsyncClient, scene: Scene) -> None:
    """There is nothing left to count, and the danger is said aloud."""
    scene.mined(scene.commitment(Side.B, 1), block(200))
    stored(tower, scene)
    tower.tip = DEADLINE + 1

    parts = await home(visitor)

    assert "A deadline has passed: the counterparty may take the money in any block." in parts["verdict"]
    assert "deadline passed" in parts["breaches"]


@pytest.mark.asyncio
async def test_an_answered_breach_is_guarded(tower: PageBench, visitor: httpx.AsyncClient, scene: Scene) -> None:
    """Once the penalty is in a block the answer is yes again, and the page says how deep it is."""
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    scene.ended(stale, scene.penalty(Side.B, 1), block(201))
    stored(tower, scene)
    tower.tip = 203

    parts = await home(visitor)

    assert "answered The penalty is in a block, 3 of 100 deep. It is guarded until then." in parts["breaches"]
    assert "Defending" not in parts["verdict"]


@pytest.mark.asyncio
async def test_a_lost_channel_is_never_a_plain_yes(tower: PageBench, visitor: httpx.AsyncClient, scene: Scene) -> None:
    """What went wrong stays on the page."""
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    scene.ended(stale, scene.settlement(Side.B, 1), block(350))
    stored(tower, scene)

    parts = await home(visitor)

    assert "1 channel was lost to a revoked state." in parts["verdict"]
    assert "lost The counterparty's settlement is in block 350" in parts["breaches"]


# ── channels ─────────────────────────────────────────────────────────────────────────────────────────────


def _id(scene: Scene) -> str:
    return scene.params.channel_id.hex()


@pytest.mark.parametrize(
    "name",
    [
        lambda s: _id(s)[:6],
        _id,
        lambda s: _id(s).upper(),
        lambda s: s.params.keys_a.auth.hex()[:8],
        lambda s: display(s.params.funding_txid),
        lambda s: s.events[0].stream,
    ],
    ids=["beginning", "whole id", "upper case", "client's key", "funding transaction", "stream"],
)
@pytest.mark.asyncio
async def test_a_channel_is_found_by(visitor: httpx.AsyncClient, scene: Scene, name: object) -> None:
    """Whatever the operator has in hand leads to the channel."""
    answer = await visitor.get("/channels", params={"search": f" {name(scene)} "})  # type: ignore[operator]

    assert f'href="/channels/{_id(scene)}"' in answer.text


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("zz", "Search for hexadecimal digits"),
        ("abc", "Give at least 4 digits."),
        ("0" * 65, "Search for hexadecimal digits"),
        ("0" * 64, "Nothing begins like this"),
    ],
)
@pytest.mark.asyncio
async def test_a_search_that_finds_nothing_says_why(
    visitor: httpx.AsyncClient, scene: Scene, search: str, said: str
) -> None:
    """A mistyped search is an answer, not an error."""
    answer = await visitor.get("/channels", params={"search": search})

    assert answer.status_code == 200
    assert said in texts(answer.text)["list"]


@pytest.mark.asyncio
async def test_a_channel_has_its_page(visitor: httpx.AsyncClient, scene: Scene) -> None:
    """State, balances, funding, history and receipts of one channel."""
    parts = texts((await visitor.get(f"/channels/{_id(scene)}")).text)

    assert "active The tower watches it." in parts["channel"]
    assert (
        "Last state 3 Final up to 3 Revoked up to 2 Balance of A 597,000 sat Balance of B 403,000 sat"
        in (parts["channel"])
    )
    assert f"Funded in block {FUNDED_AT}" in parts["channel"]
    assert "State 3 complete: A 597,000 sat, B 403,000 sat" in parts["history"]
    assert parts["receipts"].startswith("Last receipts What the tower signed receipts for State Place in the log")


@pytest.mark.asyncio
async def test_a_long_history_has_pages(tower: PageBench, visitor: httpx.AsyncClient) -> None:
    """Thirty events at a time, and a link to the ones before."""
    scene = Scene(Side.A).opened(40)
    stored(tower, scene)
    newest = await visitor.get(f"/channels/{_id(scene)}")
    older = scene.channel.version - 30 + 1
    before = await visitor.get(f"/channels/{_id(scene)}", params={"before": older})

    assert f'href="/channels/{_id(scene)}?before={older}"' in newest.text
    assert "Channel registered" not in texts(newest.text)["history"]
    assert "Channel registered" in texts(before.text)["history"]


@pytest.mark.parametrize(
    "path", ["/channels/00", "/channels/" + "0" * 64, "/channels/<script>", "/channels/" + "0" * 64 + "/breaches/zz"]
)
@pytest.mark.asyncio
async def test_what_is_not_there_is_a_page_that_says_so(visitor: httpx.AsyncClient, path: str) -> None:
    """404 with a way back."""
    answer = await visitor.get(path)

    assert (404, True) == (answer.status_code, "There is no such" in answer.text)


# ── widget, rendering ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_widget_of_a_node_platform(tower: PageBench, visitor: httpx.AsyncClient, scene: Scene) -> None:
    """Four fields in the shape that Umbrel reads."""
    scene.mined(scene.commitment(Side.B, 1), block(200))
    stored(tower, scene)

    body = json.loads((await visitor.get("/v1/widgets/status")).content)

    assert ("four-stats", "10s", "") == (body["type"], body["refresh"], body["link"])
    assert [
        ("Protected", "Defending"),
        ("Channels", "1"),
        ("Breaches", "1"),
        ("Block", "200"),
    ] == [(item["title"], item["text"]) for item in body["items"]]
    assert f"{DEADLINE - 200} blocks left" == body["items"][2]["subtext"]


def test_a_name_that_a_page_does_not_get_is_an_error() -> None:
    """A misspelt value must not become an empty place on the page."""
    with pytest.raises(UndefinedError):
        Renderer().page("missing.html", {"what": "channel"})
