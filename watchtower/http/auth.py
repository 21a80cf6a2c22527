"""Who asks: an operator by a bearer token, or a party by a signature over its request.

Nothing is told about why a credential failed beyond what its owner needs; comparisons take constant time. The service
knows hashes of tokens and public keys only.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

import msgspec
import structlog
from starlette.requests import Request

from domain.contract import keys
from domain.errors import MalformedInput
from watchtower.access import ALL_SCOPES, AccessFile, AccessFileBroken, Scope
from watchtower.http.nonces import Nonces, TooBusy
from watchtower.http.principal import Principal
from watchtower.http.problems import ClockSkew, EdgeRefusal, Replayed
from watchtower.wire.signed_request import SignedHeaders, UnsignedRequest, body_digest, read_headers

_log = structlog.get_logger(__name__)

SCHEME = "bearer "
MAX_TOKEN = 512
OWNERS = 65_536
STRANGERS = 16_384
"""Keys that are remembered as owners of a channel, and requests of other keys that are remembered at a time. Anybody
can make keys: who makes many must not use up the memory in which the requests of owners are kept."""

PARTY_SCOPES: frozenset[Scope] = frozenset({"status:read", "channels:read", "channels:write"})
"""What a party may do, with its own channel only."""

HOW = (
    "send the header Authorization: Bearer wt_… with a token of this tower (clients: token, commands: --token-file), "
    "or sign the request with the auth key of the channel"
)


class Claim(msgspec.Struct, frozen=True):
    """A credential before the body is there: a principal at once, or headers whose signature covers the body."""

    principal: Principal | None = None
    headers: SignedHeaders | None = None


class Gate:
    """Checks credentials. `token_sha256` is the token of `watchtower init`, `access` the file with all others.

    `tower_key` (x-only) is what parties sign their requests for; without it only tokens are taken. `skew` is the
    accepted difference of clocks in seconds, `now` tells Unix seconds. `is_owner` looks a key up among those of all
    channels; it is asked only while the room for strangers is full.
    """

    def __init__(
        self,
        token_sha256: bytes,
        access: AccessFile | None = None,
        *,
        tower_key: bytes = b"",
        skew: int = 60,
        is_owner: Callable[[bytes], bool] = lambda _key: False,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_sha256 = token_sha256
        self._access = access
        self._tower_key = tower_key
        self._skew = skew
        self._is_owner = is_owner
        self._now = now
        self._monotonic = monotonic
        # A second more than a request can be timely: it may come at the first and at the last moment.
        self._nonces = Nonces(2 * skew + 1)
        self._strangers = Nonces(2 * skew + 1, STRANGERS)
        self._owners: OrderedDict[bytes, None] = OrderedDict()
        self._told = ""

    def claim(self, request: Request) -> Claim:
        """Look at the headers: a token is checked at once, a signature's time and form."""
        token, signed = request.headers.get("authorization", ""), request.headers.get("signature-input", "")
        if token and signed:
            raise EdgeRefusal("unauthorized", "send either a token or a signature, not both")
        if not signed:
            return Claim(principal=Principal(scopes=self._scopes_of(token)))
        if not self._tower_key:
            raise EdgeRefusal("unauthorized", HOW)
        headers = _signed_headers(request)
        now = self._now()
        if abs(now - headers.created) > self._skew:
            raise ClockSkew(int(now), self._skew)
        return Claim(headers=headers)

    def is_still_good(self, request: Request) -> bool:
        """Whether the token of a long answer is valid yet. A party owns its channel for ever."""
        header = request.headers.get("authorization", "")
        try:
            return not header or bool(self._scopes_of(header))
        except (EdgeRefusal, AccessFileBroken):
            return False

    def token_only(self, request: Request) -> Principal:
        """The principal of a bearer token, where parties have no business."""
        return Principal(scopes=self._scopes_of(request.headers.get("authorization", "")))

    def of_digest(self, digest: bytes) -> Principal:
        """The principal of a token by its SHA-256, as a session remembers it."""
        if hmac.compare_digest(digest, self._token_sha256):
            return Principal(scopes=ALL_SCOPES)  # in the configuration: it is good although the list may be unreadable
        listed = None if self._access is None else self._listed(self._access, digest)
        if listed is None:
            raise EdgeRefusal(
                "unauthorized", "the token is not valid for this tower; its `watchtower token create` makes one that is"
            )
        return Principal(scopes=listed)

    def _listed(self, access: AccessFile, digest: bytes) -> frozenset[Scope] | None:
        """What the list says of a token; says once, loudly, that it cannot be read. Raises `AccessFileBroken`."""
        try:
            found = access.scopes_of_digest(digest)
        except AccessFileBroken as error:
            if str(error) != self._told:
                _log.error("access_list_unreadable", reason=str(error))
            self._told = str(error)
            raise
        self._told = ""
        return found

    def admit(self, claim: Claim, request: Request, body: bytes) -> Principal:
        """The principal of a claim, once its body has arrived (empty where the address takes none)."""
        if claim.principal is not None:
            return claim.principal
        headers = claim.headers
        assert headers is not None
        if not hmac.compare_digest(headers.digest, body_digest(body)):
            raise EdgeRefusal("unauthorized", "Content-Digest is not the SHA-256 of the body that arrived")
        unsigned = UnsignedRequest(
            method=request.method,
            tower_key=self._tower_key,
            target=target_of(request),
            body_sha256=headers.digest,
            created=headers.created,
            nonce=headers.nonce,
        )
        if not keys.verify_schnorr(headers.key, unsigned.hash, headers.signature):
            raise EdgeRefusal(
                "unauthorized", "the signature is not one by keyid over this request for this tower (its tower_id)"
            )
        # Only good signatures are remembered, so that nobody can use up a stranger's nonces.
        if not self._is_new(headers.key, headers.nonce):
            raise Replayed
        return Principal(key=headers.key, scopes=PARTY_SCOPES)

    def note_owner(self, key: bytes) -> None:
        """A channel is watched for this key: its requests have their own room."""
        self._owners[key] = None
        self._owners.move_to_end(key)
        if len(self._owners) > OWNERS:
            self._owners.popitem(last=False)

    def _is_new(self, key: bytes, nonce: bytes) -> bool:
        """Remember a request; False if it was here before, whoever its key was taken for then. Raises `TooBusy`."""
        now = self._monotonic()
        if self._is_known(key):
            return not self._strangers.has(key, nonce, now) and self._nonces.add(key, nonce, now)
        if self._nonces.has(key, nonce, now):
            return False
        try:
            return self._strangers.add(key, nonce, now)
        except TooBusy:
            # An owner that was not here since the start must not be shut out by a crowd of made-up keys.
            if not self._is_owner(key):
                raise
            self.note_owner(key)
            return self._nonces.add(key, nonce, now)

    def _is_known(self, key: bytes) -> bool:
        if key in self._owners:
            return True
        try:
            return self._access is not None and self._access.allows(key)
        except AccessFileBroken:  # an owner's requests need no list
            return False

    def _scopes_of(self, header: str) -> frozenset[Scope]:
        if not header.lower().startswith(SCHEME) or len(header) > MAX_TOKEN:
            raise EdgeRefusal("unauthorized", HOW)
        return self.of_digest(sha256(header[len(SCHEME) :].strip().encode()).digest()).scopes


def target_of(request: Request) -> bytes:
    """Path and query as they stand in the request line."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


def require_scope(principal: Principal, scope: Scope) -> None:
    """Raise a 403 refusal unless the principal may do this."""
    if scope not in principal.scopes:
        raise EdgeRefusal("forbidden", f"this needs a token with the scope {scope}")


def _signed_headers(request: Request) -> SignedHeaders:
    names = ("content-digest", "signature-input", "signature")
    if any(len(request.headers.getlist(name)) > 1 for name in names):
        raise EdgeRefusal("unauthorized", "each header of a signature must stand once")
    try:
        return read_headers(*(request.headers.get(name, "") for name in names))
    except MalformedInput as error:
        raise EdgeRefusal("unauthorized", str(error)) from None
