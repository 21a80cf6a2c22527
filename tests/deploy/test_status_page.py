"""The status page in a real browser, over a real tower on a regtest node with real breaches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from domain.chain import display
from domain.units import Side
from tests.support.browser import PHONE, WIDE, Watched, chromium, cut
from tests.support.live_tower import LiveTower, live_tower

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(240)]

SECONDS = 60_000.0
"""Milliseconds for one expectation. A change shows within two seconds, 15 s later where a stream was refused."""

Scheme = Literal["light", "dark"]
FOUND = re.compile(r"/channels\?(.*&)?search=")
"""Where a search leads to."""

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this file."""
    expect.set_options(timeout=SECONDS)
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def live(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveTower]:
    """A tower with four channels, one of them breached in a block; the browser first, because it may be missing."""
    with live_tower(tmp_path_factory.mktemp("status")) as tower:
        pairs = tower.open_channels(4, updates=2)
        tower.breach(pairs[0], in_block=True)
        tower.wait_height()
        yield tower


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A desktop's page; afterwards its console must have been silent."""
    with browser.new_context(viewport=WIDE) as context:
        found = Watched(context)
        yield found
        assert [] == found.said


def test_a_real_breach_shows_without_a_reload(live: LiveTower, watched: Watched) -> None:
    """Seen, answered, and in a block: each step comes to an open page by itself, and the countdown with it."""
    page = watched.open(live.admin_url)
    page.evaluate("window.stays = true")
    pair = live.pairs[1]

    commit = display(live.breach(pair))
    article = page.locator("article.breach", has_text=commit)
    expect(article).to_contain_text("not in a block yet")
    expect(article).to_contain_text("The penalty is in the mempool and waits for a block.")
    expect(page.locator("#protected")).to_contain_text("Defending.")

    live.mine(1)
    expect(article).to_contain_text("answered")
    expect(article).to_contain_text("The penalty is in a block, 1 of 100 deep.")
    expect(page.locator("[data-live=events]")).to_contain_text("swept")
    assert page.evaluate("window.stays") is True


def test_search_leads_to_the_channel_and_its_breach(live: LiveTower, watched: Watched) -> None:
    """With the first digits of an id, as somebody types them."""
    page = watched.open(live.admin_url)
    name = live.pairs[0].channel_id.hex()

    page.get_by_label("Find a channel").fill(name[:8])
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(FOUND)  # the page before names the channel too, beside its breach
    page.get_by_role("link", name=name[:8]).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Channel {name[:8]}")
    page.get_by_role("link", name="A breach of this channel is open").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Breach")
    expect(page.locator("[data-live=history]")).to_contain_text("BREACH: A published revoked state 1")


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        ("/", "light"),
        ("/", "dark"),
        ("/channels", "light"),
        ("/channels/{id}", "dark"),
        ("/channels/{id}/breaches/{txid}", "light"),
    ],
)
def test_pages_are_accessible_and_fit_a_phone(live: LiveTower, browser: Browser, path: str, scheme: Scheme) -> None:
    """No finding of axe-core, contrast included; nothing is wider than 400 pixels; the keyboard finds the content."""
    pair = live.pairs[0]
    filled = path.format(id=pair.channel_id.hex(), txid=display(pair.commitment_txid(Side.A, 1)))
    with browser.new_context(viewport=PHONE, color_scheme=scheme) as context:
        watched = Watched(context)
        page = watched.page
        page.goto(live.admin_url + filled)
        found = Axe().run(page, options={"runOnly": {"type": "tag", "values": list(RULES)}})

        assert [] == [(each["id"], [node["html"] for node in each["nodes"]]) for each in found.response["violations"]]
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to the content")


def test_the_page_is_complete_without_scripts(live: LiveTower, browser: Browser) -> None:
    """Everything is drawn by the server; only live updates are missing, and the page says so."""
    with browser.new_context(viewport=PHONE, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(live.admin_url)

        expect(page.locator("#protected")).to_contain_text("Am I protected?")
        expect(page.locator("article.breach").first).to_be_visible()
        expect(page.locator("svg.qr")).to_be_visible()
        expect(page.locator("footer")).to_contain_text("Live updates need JavaScript")
        page.get_by_label("Find a channel").fill(live.pairs[2].channel_id.hex())
        page.get_by_role("button", name="Search").click()
        expect(page).to_have_url(FOUND)
        expect(page.get_by_role("cell").first).to_be_visible()


def test_a_page_whose_tower_is_gone_says_so(live: LiveTower, browser: Browser) -> None:
    """An old "yes" must not stand there as if it were true; when the tower is back the page is live again."""
    with browser.new_context(viewport=WIDE) as context:
        page = Watched(context).open(live.admin_url)
        state = page.locator("#live-state")

        context.route("**/*", cut)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        live.node.mine(1)
        expect(state).to_contain_text("The tower does not answer since")

        context.unroute("**/*")
        live.mine(1)
        expect(state).to_have_text("Live.")


def test_a_page_without_a_stream_is_no_page_without_a_tower(live: LiveTower, browser: Browser) -> None:
    """The ninth page gets none, and a browser does not ask again by itself: what it shows is true all the same."""
    with browser.new_context(viewport=WIDE) as context:
        context.route("**/events*", lambda route: route.fulfill(status=503, body="{}"))
        page = Watched(context).open(live.admin_url)
        state = page.locator("#live-state")
        expect(state).to_have_text("Live.")

        context.unroute("**/events*")
        live.mine(1)
        expect(page.locator("[data-live=verdict]")).to_contain_text(f"{live.node.height():,}")


def test_print_has_the_answer_and_no_controls(live: LiveTower, watched: Watched) -> None:
    """On paper there is nothing to click."""
    page = watched.open(live.admin_url)
    page.emulate_media(media="print")

    expect(page.locator("#protected")).to_be_visible()
    expect(page.locator("header.top")).to_be_hidden()
    expect(page.locator("form.search")).to_be_hidden()
