"""The one place where errors become HTTP problems (RFC 9457).

A domain refusal or a service error has a stable slug; the status follows from the table below or from the kind
of error. Anything else is a fault of this program: 500 without details, and a line in the log.
"""

from __future__ import annotations

from email.utils import formatdate
from math import ceil
from typing import ClassVar

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from domain.errors import DomainError, LogCorrupt, MalformedInput, Refusal
from watchtower.access import AccessFileBroken
from watchtower.http.buckets import RateLimited
from watchtower.http.nonces import TooBusy
from watchtower.keystore import KeystoreError
from watchtower.ports import NodeError, StoreError, WatchtowerError, WrongChain
from watchtower.wire.api import Problem
from watchtower.wire.hexes import to_json
from watchtower.worker import WorkerUnavailable

_log = structlog.get_logger(__name__)

PROBLEM_TYPE = "application/problem+json"
URN = "urn:state-channel:"
RETRY_SECONDS = "2"

REQUEST_ID = "watchtower.request_id"
"""Where the scope of a request has its name, 16 hexadecimal digits."""

REQUEST_HEADER = "X-Request-Id"
"""Header of every answer of the API with that name: what a client quotes, and the operator finds in the log."""

TITLES: dict[str, str] = {
    "malformed": "The request cannot be read",
    "invalid-params": "The channel constants must not be used",
    "invalid-state": "The state breaks a rule",
    "invalid-signature": "A signature does not verify",
    "invalid-secret": "A revocation secret does not fit",
    "sequence-gap": "The state number is not the next one",
    "equivocation": "Another content is stored for this state number",
    "channel-closed": "The channel is closing or closed",
    "channel-not-ready": "The channel is not ready",
    "tower-full": "The tower takes no more",
    "unknown-channel": "There is no such channel",
    "channel-exists": "The channel is registered with other content",
    "funding-mismatch": "The funding output is not as agreed",
    "application-refused": "The channel's application refuses the state",
    "challenge-refused": "The proof does not hold against what is published",
    "unknown-transaction": "The transaction is not known",
    "unknown-state": "The state is not stored here",
    "unknown-point": "The log has no such point",
    "past-too-long": "The answer would take too long here",
    "self-breach": "The state was revoked by its own side",
    "refused": "The request is refused",
    "unauthorized": "A valid token or signature is needed",
    "clock-skew": "The clocks differ too much",
    "forbidden": "This may not be done with this token or key",
    "rate-limited": "Too many requests",
    "too-busy": "The service is too busy",
    "worker-unavailable": "The service cannot judge the state now",
    "access-file": "The service cannot check credentials now",
    "keystore-conflict": "Another secret is stored for this channel",
    "not-found": "There is nothing at this address",
    "method-not-allowed": "This address does not take this method",
    "too-large": "The request is too large",
    "unsupported-media-type": "The body must be JSON",
    "request-timeout": "The request took too long to arrive",
    "conflict": "Another request was faster",
    "store-busy": "The store is busy",
    "standing-by": "This tower stands by",
    "store-away": "The store cannot be reached",
    "store-full": "The disk is full",
    "receipts-suspended": "The tower gives no receipts now",
    "node-unavailable": "The tower's node cannot be asked",
    "wrong-chain": "The tower's node follows another chain",
    "internal": "The service failed",
}

STATUS: dict[str, int] = {
    "malformed": 400,
    "unauthorized": 401,
    "clock-skew": 401,
    "forbidden": 403,
    "unknown-channel": 404,
    "unknown-transaction": 404,
    "unknown-state": 404,
    "unknown-point": 404,
    "not-found": 404,
    "method-not-allowed": 405,
    "request-timeout": 408,
    "sequence-gap": 409,
    "equivocation": 409,
    "channel-closed": 409,
    "channel-not-ready": 409,
    "channel-exists": 409,
    "tower-full": 409,
    "keystore-conflict": 409,
    "too-large": 413,
    "unsupported-media-type": 415,
    "rate-limited": 429,
    "too-busy": 503,
    "worker-unavailable": 503,
    "access-file": 503,
    "store-full": 507,
}
"""Slugs whose status is not that of their kind."""


class EdgeRefusal(DomainError):
    """Refused before any use case was asked: authentication, size, media type."""

    slug: ClassVar[str] = "refused"

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.name = slug


class Replayed(EdgeRefusal):
    """A signed request that was received before."""

    def __init__(self) -> None:
        super().__init__("unauthorized", "this signed request was received before; sign it again")


class ClockSkew(EdgeRefusal):
    """The time in a signature is too far from the tower's; `now` in Unix seconds is told, so that it can be mended."""

    def __init__(self, now: int, skew: int) -> None:
        super().__init__("clock-skew", f"the request was signed more than {skew} seconds away from the tower's {now}")
        self.now = now


def problem_response(error: Exception, request: Request | None = None) -> Response:
    """The problem document of an error."""
    slug, status, detail = describe(error)
    request_id = None if request is None else request.scope.get(REQUEST_ID)
    if status == 500:
        # This comes from outside of the application: neither its context nor its headers are there any more.
        name = {} if request_id is None else {"request_id": request_id}
        _log.error("http_rejected", route=route_of(request), reason=type(error).__name__, exc_info=error, **name)
    problem = Problem(
        type=URN + slug,
        title=TITLES.get(slug, "The service cannot answer now"),
        status=status,
        detail=detail,
        time=error.now if isinstance(error, ClockSkew) else None,
        request_id=request_id,
    )
    outside = {REQUEST_HEADER: request_id} if request_id is not None and _is_unforeseen(error) else {}
    return Response(to_json(problem), status, _headers(error, status) | outside, PROBLEM_TYPE)


def _is_unforeseen(error: Exception) -> bool:
    """Whether Starlette answers outside of the application's own layers, because no handler of a kind fits."""
    return not isinstance(error, DomainError | WatchtowerError | HTTPException)


def _headers(error: Exception, status: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    if status == 503:
        headers["Retry-After"] = RETRY_SECONDS
    if isinstance(error, RateLimited):
        headers["Retry-After"] = str(max(1, ceil(error.seconds)))
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)  # for example Allow, which belongs to a 405 (RFC 9110)
    if isinstance(error, ClockSkew):
        headers["Date"] = formatdate(error.now, usegmt=True)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="watchtower"'
    return headers


def describe(error: Exception) -> tuple[str, int, str | None]:
    """Slug, status and detail. Only errors whose sentences are written for clients show their text."""
    if isinstance(error, EdgeRefusal):
        return error.name, STATUS.get(error.name, 400), str(error)
    if isinstance(error, HTTPException):
        slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "refused")
        return slug, error.status_code, None
    if isinstance(error, DomainError) and not isinstance(error, LogCorrupt):
        return error.slug, STATUS.get(error.slug, _kind(type(error))), str(error)
    if isinstance(error, WatchtowerError):
        # Sentences of node, store and keystore name paths and addresses: they are for the operator's log.
        return error.slug, STATUS.get(error.slug, _kind(type(error))), _public_sentence(error)
    return "internal", 500, None


def status_of(slug: str) -> int:
    """The status that a problem with this slug has."""
    if slug in STATUS:
        return STATUS[slug]
    found = [kind for kind in _kinds(DomainError, WatchtowerError) if kind.slug == slug]
    return _kind(found[0]) if found else 500


def _kinds(*bases: type[DomainError | WatchtowerError]) -> list[type[DomainError | WatchtowerError]]:
    return [found for base in bases for found in (base, *_kinds(*base.__subclasses__()))]


def route_of(request: Request | None) -> str:
    """The route template of a request, or `unmatched`; never the path itself."""
    route = None if request is None else request.scope.get("route")
    return getattr(route, "path", "unmatched")


def _kind(error: type[Exception]) -> int:
    if issubclass(error, MalformedInput):
        return 400
    if issubclass(error, Refusal):
        return 422
    if issubclass(error, NodeError | StoreError | WrongChain | KeystoreError):
        return 503
    return 500


def _public_sentence(error: WatchtowerError) -> str:
    if isinstance(error, WrongChain):
        return (
            "the bitcoin node of this tower follows another chain than the tower; nothing was stored, tell its operator"
        )
    if isinstance(error, NodeError):
        return "the bitcoin node cannot be asked now; nothing was stored, try again"
    if isinstance(error, TooBusy):
        return str(error)
    if isinstance(error, WorkerUnavailable):
        return "the part of the service that judges states cannot take this one now; nothing was stored, try again"
    if isinstance(error, AccessFileBroken):
        return "the list of tokens and parties of this tower cannot be read; tell its operator"
    if error.slug == "standing-by":
        return "this tower stands by for another one; nothing was stored, ask the one that leads"
    if error.slug == "store-away":
        return "the database of the service is away; it is not known whether this was stored: send the same again"
    if error.slug == "store-full":
        return "the disk of the service is full; nothing was stored, try again when there is room"
    if isinstance(error, KeystoreError):
        return "the keystore of the service cannot take the secret; nothing was registered"
    return "the store cannot take this now; try again"
