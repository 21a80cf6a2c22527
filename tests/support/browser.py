"""Chromium for tests that look at pages as people do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, ViewportSize, sync_playwright

from tests.support.programs import program

WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 400, "height": 860}
ARGUMENTS = ("--no-sandbox", "--disable-lcd-text", "--force-color-profile=srgb")
"""Root has no sandbox in a container; grey text looks the same on every machine."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of the host or of Debian's packages; skips or fails as `program` does."""
    path = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page and everything that its console said."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        """Leaving a page ends its event stream, and a drawing that is under way: the browser calls both a failure."""
        ended = "/events?" in request.url or request.failure == "net::ERR_ABORTED"
        self.said += [] if ended else [f"failed: {request.url}"]

    def open(self, url: str) -> Page:
        """Load a page and wait until it is live."""
        self.page.goto(url)
        self.page.wait_for_selector("html[data-state=live]")
        return self.page


def cut(route: Route) -> None:
    """Answer a request with nothing, as a tower that is gone."""
    route.abort()
