"""The tower's own addresses: free or its own, and open to no more than they should be."""

from __future__ import annotations

import http.client
import ipaddress
import socket
from collections.abc import Iterator

from watchtower.access import AccessFile, AccessFileBroken
from watchtower.config import parse_listen
from watchtower.doctor.asking import get, place_of
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn

ANSWER_SECONDS = 2.0


def look(case: Case) -> Iterator[Finding]:
    """Findings about `api.listen` and `admin.listen`, and who is let in."""
    settings = case.settings
    for name, text in (("api", settings.api.listen), ("admin", settings.admin.listen)):
        yield _port(name, text)
    yield _admin(case)
    yield from _api(case)
    yield from _access(case)


def _port(name: str, text: str) -> Finding:
    """Free, or answered by a tower. The address is bound for a moment only, and nothing listens."""
    check, (host, port) = f"listeners.{name}", parse_listen(text)
    if not port:
        return ok(check, f"{text}: any free port")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if _is_tower(host, port):
                return ok(check, f"{text}: a tower answers")
            return fail(check, f"{text}: {error.strerror}", f"set {name}.listen to another port, or end what is there")
    return ok(check, f"{text} is free; no tower runs here")


def _is_tower(host: str, port: int) -> bool:
    place = place_of(host, port)
    for path, word in (("/healthz", b'"alive"'), ("/metrics", b"watchtower_build_info")):
        try:
            reply = get(place, path, seconds=ANSWER_SECONDS)
        except (OSError, http.client.HTTPException):
            return False
        if word in reply.body or reply.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            return True
    return False


def _admin(case: Case) -> Finding:
    chosen = case.settings.admin
    if _is_local(chosen.listen):
        return ok("listeners.admin_exposed", f"admin.listen {chosen.listen} is for this machine only")
    if chosen.page == "open":
        what = f"admin.listen {chosen.listen} shows channels and breaches to everybody who can reach it"
        mend = 'set admin.page to "auto", or let a proxy that asks who they are be the only one to reach it'
        return fail("listeners.admin_exposed", what, mend)
    if chosen.require_token:
        what = f"admin.listen {chosen.listen} can be reached from elsewhere, with a token and without encryption"
        return warn("listeners.admin_exposed", what, "set admin.listen to 127.0.0.1:9816 and use a tunnel or a proxy")
    mend = "set admin.listen to 127.0.0.1:9816, or at least admin.require_token = true"
    what = f"admin.listen {chosen.listen} shows metrics, with sums of money, to everybody who can reach it"
    return fail("listeners.admin_exposed", what, mend)


def _api(case: Case) -> Iterator[Finding]:
    chosen, policy = case.settings.api, case.settings.policy
    if _is_local(chosen.listen):
        yield ok("listeners.api_exposed", f"api.listen {chosen.listen} is for this machine only")
    else:
        what = f"api.listen {chosen.listen} can be reached from elsewhere and does not speak TLS"
        yield warn("listeners.api_exposed", what, "put a reverse proxy with TLS or an onion service before it")
        if chosen.trust_forwarded_for:
            what = "api.trust_forwarded_for believes everybody who can reach the API who he says he is"
            yield warn("listeners.forwarded", what, "let the API listen on 127.0.0.1, behind the proxy that you trust")
    if policy.registration == "open" and not (policy.max_channels and policy.max_total_capacity):
        what = "everybody who reaches the API may register as many channels as he likes"
        yield warn("listeners.registration", what, "set policy.max_channels and policy.max_total_capacity")


def _access(case: Case) -> Iterator[Finding]:
    try:
        table = AccessFile(case.data_dir / "access.json").table()
    except AccessFileBroken as error:
        yield fail("listeners.access", str(error), "repair the file: while it cannot be read nobody is let in")
        return
    policy, chosen = case.settings.policy, case.settings.api
    if not (table.parties or table.tokens or chosen.token_hash) and policy.registration != "open":
        mend = "run `watchtower client allow KEY`, or `watchtower token create`"
        yield warn("listeners.access", "nobody may use the API: no token, no party", mend)
    else:
        tokens = len(table.tokens) + bool(chosen.token_hash)
        yield ok("listeners.access", f"{len(table.parties)} parties and {tokens} tokens are let in")


def _is_local(text: str) -> bool:
    host, _ = parse_listen(text)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name that anything may stand behind
        return False
