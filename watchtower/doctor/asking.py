"""Questions to a running tower over its own listeners: what `health`, `status`, `top` and the doctor look at.

Only the standard library is loaded: a container asks every few seconds.
"""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec

from watchtower.config import Settings, parse_listen
from watchtower.ports import WatchtowerError

SECONDS = 3.0
LARGEST = 4_000_000
"""Bytes of an answer; a page of metrics has less than a tenth of it."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_NOT_HERE = (http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.NOT_FOUND)


class TowerAway(WatchtowerError):
    """No tower answers at the addresses of the settings."""

    slug: ClassVar[str] = "tower-unreachable"


class Reply(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: bytes

    def document(self) -> Any:
        """The body as JSON; raises `TowerAway` for something else: then it is no tower that answers."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            raise TowerAway(f"what answers there is no tower (HTTP {self.status}, no JSON)") from None


def listeners(settings: Settings) -> tuple[str, ...]:
    """`host:port` of the operator's listener, then of the API: the first one has places that clients cannot take."""
    found = []
    for text in (settings.admin.listen, settings.api.listen):
        host, port = parse_listen(text)
        if port:
            found.append(place_of(host, port))
    return tuple(found)


def place_of(host: str, port: int) -> str:
    """`host:port` to ask at, for an address that is listened on."""
    host = _ANYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def token_of(settings: Settings) -> str:
    """The token of `watchtower init`, if this user may read it; else nothing."""
    try:
        return (Path(settings.data_dir) / "api.token").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def ask(settings: Settings, path: str, *, token: str = "", seconds: float = SECONDS) -> Reply:
    """The first listener's answer that knows the path; raises `TowerAway` if none can be reached."""
    places = listeners(settings)
    if not places:
        raise TowerAway("api.listen and admin.listen leave the port to chance: nobody knows where to ask")
    reply, trouble = None, []
    for place in places:
        try:
            reply = get(place, path, token=token, seconds=seconds)
        except (OSError, http.client.HTTPException) as error:
            trouble.append(f"{place}: {_words(error)}")
            continue
        if reply.status not in _NOT_HERE:
            break
    if reply is None:
        raise TowerAway("no tower answers (" + "; ".join(trouble) + "); is `watchtower run` running?")
    return reply


def get(place: str, path: str, *, token: str = "", seconds: float = SECONDS) -> Reply:
    """GET of a path at `host:port`; raises `OSError` or `HTTPException`."""
    connection = http.client.HTTPConnection(place, timeout=seconds)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(LARGEST))
    finally:
        connection.close()


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
