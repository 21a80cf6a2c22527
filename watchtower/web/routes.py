"""Addresses of the status page on the admin listener. All of them read; forms make and end sessions, nothing else."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from domain.chain import from_display
from domain.errors import DomainError, MalformedInput
from watchtower.http.body import read_body
from watchtower.http.buckets import Buckets, group_of
from watchtower.http.feed import Feed
from watchtower.http.problems import EdgeRefusal
from watchtower.http.routes import openapi_route
from watchtower.http.traffic import Traffic
from watchtower.store.channel_list import breach_of
from watchtower.web.breach_view import breach_view, danger_of
from watchtower.web.channel_view import channel_page, find_channel, list_channels, statuses
from watchtower.web.guard import COOKIE, Visitors, require_own_page
from watchtower.web.home_view import HomeViews
from watchtower.web.live import PageStream
from watchtower.web.render import Renderer
from watchtower.web.sessions import LIFETIME
from watchtower.web.sources import Sources
from watchtower.web.widget import widget
from watchtower.web.words import txid_text
from watchtower.wire.hexes import to_json

ASSETS = Path(__file__).parent / "assets"
HTML = "text/html; charset=utf-8"
JSON = "application/json"
FORM_BYTES = 4_096
ATTEMPTS, ATTEMPTS_BURST = 0.5, 20.0
"""Attempts to log in a second of one address, and for how many seconds of them at once: ten."""

LONGEST_NUMBER = 15

Answer = Callable[[Request], Awaitable[Response]]


class StatusPage:
    """The pages over the sources of one tower."""

    def __init__(self, sources: Sources, visitors: Visitors, feed: Feed, traffic: Traffic) -> None:
        """`feed` wakes open pages, `traffic` counts them."""
        self._sources, self._visitors, self._feed, self._traffic = sources, visitors, feed, traffic
        self._views = HomeViews(sources)
        self._renderer = Renderer()
        self._attempts = Buckets(ATTEMPTS, burst=ATTEMPTS_BURST, unit="attempts to log in")

    def routes(self) -> list[BaseRoute]:
        """Everything that is asked with GET or HEAD, and the two forms of a session."""
        read = {
            "/": self._guarded(self._home),
            "/channels": self._guarded(self._channels),
            "/channels/{id}": self._guarded(self._channel),
            "/channels/{id}/breaches/{txid}": self._guarded(self._breach),
            "/events": self._events,
            "/v1/widgets/status": self._widget,
        }
        routes: list[BaseRoute] = [Route(path, answer, methods=["GET"]) for path, answer in read.items()]
        routes += [_asset("status.css", "text/css"), _asset("live.js", "text/javascript")]
        routes.append(_asset("icon.svg", "image/svg+xml"))
        routes.append(openapi_route())
        if self._visitors.asks:
            routes.append(Route("/login", self._login, methods=["GET", "POST"]))
            routes.append(Route("/logout", self._logout, methods=["POST"]))
        return routes

    def _guarded(self, draw: Callable[[Request], Response]) -> Answer:
        """A page that is drawn in a worker thread for who may see it; others are shown the door."""

        async def answer(request: Request) -> Response:
            try:
                self._visitors.admit(request)
            except EdgeRefusal:
                if "authorization" in request.headers:
                    raise
                return RedirectResponse("/login", 303)
            return await run_in_threadpool(draw, request)

        return answer

    def _home(self, _request: Request) -> Response:
        position = self._views.known_until()
        return self._page("home.html", position, home=self._views.home())

    def _channels(self, request: Request) -> Response:
        asked, position = request.query_params, self._views.known_until()
        found = list_channels(
            self._sources, asked.get("search", ""), asked.get("status", "").upper(), asked.get("after", "")
        )
        return self._page("channels.html", position, found=found, statuses=statuses(), search=found.search)

    def _channel(self, request: Request) -> Response:
        position = self._views.known_until()
        info = find_channel(self._sources, request.path_params["id"])
        if info is None:
            return self._page("missing.html", position, 404, what="channel")
        open_ones = [each for each in self._views.sums().breaches if each.stream == info.stream]
        breaches = tuple(txid_text(each.commit_txid) for each in open_ones)
        shown = channel_page(self._sources, info, _number(request.query_params.get("before", "")), breaches)
        return self._page("channel.html", position, page=shown)

    def _breach(self, request: Request) -> Response:
        sources, position = self._sources, self._views.known_until()
        info = find_channel(sources, request.path_params["id"])
        txid = _txid(request.path_params["txid"])
        row = None if info is None or txid is None else breach_of(sources.rows, info.stream, txid)
        if info is None or row is None:
            return self._page("missing.html", position, 404, what="open breach")
        shown = breach_view(row, info, sources.tip(), sources.facts.network)
        history = channel_page(sources, info, None, ()).history
        return self._page("breach.html", position, breach=shown, history=history, spk=row.spk.hex())

    def _page(self, template: str, position: int, status: int = 200, **values: object) -> Response:
        """`position` is one that was taken before the `values`: what came since is not promised to be on the page."""
        sources = self._sources
        common = {
            "facts": sources.facts,
            "now": sources.now(),
            "position": position,
            "verdict": self._views.verdict(),
            "height": sources.tip(),
            "has_session": self._visitors.asks,
        }
        return Response(self._renderer.page(template, common | values), status, media_type=HTML)

    async def _events(self, request: Request) -> Response:
        self._visitors.admit(request)
        if request.method == "HEAD":
            return Response(None, 200, media_type="text/event-stream")
        seen = _number(request.headers.get("last-event-id", "") or request.query_params.get("after", ""))
        return PageStream(self._feed, seen, lambda: self._visitors.may_stay(request), self._traffic)

    async def _widget(self, request: Request) -> Response:
        self._visitors.admit(request)

        def made() -> bytes:
            sources, sums = self._sources, self._views.sums()
            danger = danger_of(sums.breaches, sources.tip())
            return to_json(widget(self._views.verdict(), sums, danger, sources.tip(), sources.lag()))

        return Response(await run_in_threadpool(made), 200, media_type=JSON)

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return self._door("")
        require_own_page(request)
        self._limit_attempts(request)
        token = _token_of(await read_body(request, FORM_BYTES))
        try:
            session = self._visitors.log_in(token)
        except DomainError as refusal:
            return self._door(str(refusal), 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, session, int(LIFETIME), httponly=True, samesite="strict")
        return answer

    def _limit_attempts(self, request: Request) -> None:
        """Nobody guesses 256 bits; but every attempt reads a form and the list of tokens. Raises `RateLimited`."""
        group = None if request.client is None else group_of(request.client.host)
        if group is not None:
            self._attempts.take(group, time.monotonic())

    async def _logout(self, request: Request) -> Response:
        require_own_page(request)
        self._visitors.log_out(request)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    def _door(self, refusal: str, status: int = 200) -> Response:
        """The form that asks for a token; it tells a stranger nothing about the tower."""
        return Response(self._renderer.page("login.html", {"refusal": refusal}), status, media_type=HTML)


def _asset(name: str, kind: str) -> Route:
    content = (ASSETS / name).read_bytes()

    async def served(_request: Request) -> Response:
        return Response(content, 200, {"Cache-Control": "no-cache"}, kind)

    return Route(f"/assets/{name}", served, methods=["GET"])


def _token_of(form: bytes) -> str:
    """What stands in the form of the door; `MalformedInput` for another form."""
    try:
        return parse_qs(form.decode("utf-8", "replace"), max_num_fields=4).get("token", [""])[0].strip()
    except ValueError:
        raise MalformedInput("the form has one field, token") from None


def _number(text: str) -> int | None:
    """A whole number of a query, or None: pages are not worth an error."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER else None


def _txid(text: str) -> bytes | None:
    try:
        return from_display(text)
    except DomainError:
        return None
