"""Before anything of the page is drawn: the name it was asked for under, who asks, and the headers of every answer.

A site of somebody else may make its own name point to this host and ask from the operator's browser: so only names that
are known, and plain addresses, are answered. Nothing here may be framed, run what others wrote, or be kept by a cache.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchtower.access import AccessFileBroken
from watchtower.http.auth import Gate, require_scope
from watchtower.http.problems import EdgeRefusal, problem_response
from watchtower.web.sessions import Sessions

COOKIE = "watchtower_session"
UNNAMED = ("/metrics", "/healthz", "/readyz")
"""Asked by programs of the operator's network under any name; what they tell is for programs."""

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """The outermost layer of the admin listener. `names` are answered beside localhost and addresses; "*": all are."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse a name that nobody gave this tower."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in given)]
            await send(message)

        if scope["path"] in UNNAMED or self._knows(Headers(scope=scope).getlist("host")):
            await self._app(scope, receive, with_headers)
            return
        refusal = EdgeRefusal(
            "forbidden", "the page is not opened under this host name; use localhost, or set admin.page_names"
        )
        await problem_response(refusal)(scope, receive, with_headers)

    def _knows(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        name = host_name(hosts[0])
        return bool(name) and ("*" in self._names or name == "localhost" or name in self._names or _is_address(name))


class Visitors:
    """Lets in who may see the page: everybody, or who has a token with the scope `status:read`."""

    def __init__(self, gate: Gate, sessions: Sessions, *, asks: bool) -> None:
        """`asks` for a token."""
        self._gate = gate
        self._sessions = sessions
        self.asks = asks

    def admit(self, request: Request) -> None:
        """Raise a refusal (401 or 403) unless the visitor may read."""
        if not self.asks:
            return
        if "authorization" in request.headers:
            principal = self._gate.token_only(request)
        else:
            digest = self._sessions.token_sha256(request.cookies.get(COOKIE, ""))
            if digest is None:
                raise EdgeRefusal("unauthorized", "log in with a token that has the scope status:read")
            principal = self._gate.of_digest(digest)
        require_scope(principal, "status:read")

    def may_stay(self, request: Request) -> bool:
        """The same as an answer, for streams that last."""
        try:
            self.admit(request)
        except (EdgeRefusal, AccessFileBroken):
            return False
        return True

    def log_in(self, token: str) -> str:
        """Open a session for a token; its name. Raises a refusal."""
        digest = Sessions.digest(token)
        require_scope(self._gate.of_digest(digest), "status:read")
        return self._sessions.open(digest)

    def log_out(self, request: Request) -> None:
        """End the visitor's session."""
        self._sessions.close(request.cookies.get(COOKIE, ""))


def require_own_page(request: Request) -> None:
    """Raise a refusal for a form that another site sent: the browser says where it comes from."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise EdgeRefusal("forbidden", "this form was sent by another site")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise EdgeRefusal("forbidden", "this form was sent by another site")


def host_name(host: str) -> str:
    """The name in a Host header, lower case, without port and brackets; empty if it has no sane form."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(listen_host: str) -> bool:
    """Whether a listener at this address is reached from this host only."""
    try:
        return ip_address(listen_host).is_loopback
    except ValueError:
        return listen_host == "localhost"


def _is_address(name: str) -> bool:
    """A plain address cannot be made to point elsewhere."""
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
