"""Signs requests to a tower with the auth key of a channel, instead of a token.

    StateChannelClient(config, auth=PartyAuth(party, tower_id))     # all channels of a party
    httpx.AsyncClient(base_url=url, auth=PartySigner(secret, tower_id))    # one key

The tower's id is pinned: a request that was signed for one tower is worth nothing at another one.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Generator
from email.utils import parsedate_to_datetime
from typing import Protocol

import httpx

from domain.contract import keys
from domain.contract.params import ChannelParams
from domain.contract.proofs import HEAD_SIZE, ProofHead
from domain.errors import MalformedInput
from watchtower.client.party.party import ChannelParty
from watchtower.client.tower.following import ABOUT
from watchtower.wire.api import RegisterRequest
from watchtower.wire.disputes import ValidateRequest, VerifyRequest
from watchtower.wire.hexes import from_json
from watchtower.wire.signed_request import NONCE_SIZE, SignedHeaders, UnsignedRequest, body_digest, write_headers

LARGEST_CORRECTION = 86_400.0
"""Seconds. A clock that is further off should be set, not worked around."""

_CHANNEL = re.compile(r"/v1/(?:channels|receipts)/([0-9a-f]{64})(?:/|$)")

WHOLE_ID = re.compile(r"[0-9a-f]{64}")


class Sign(Protocol):
    """Signs for the channel that a request is about."""

    def __call__(self, request: httpx.Request, unsigned: UnsignedRequest, /) -> tuple[bytes, bytes]:
        """X-only key (32 bytes) and signature (64)."""


class RequestAuth(httpx.Auth):
    """Signs every request for one tower. `tower_id` is its x-only key, 32 bytes.

    If the tower finds the clocks too different, the request is signed once more with the time that the tower tells. A
    tower learns nothing by lying about it: the signature is good at this tower only.
    """

    requires_request_body = True

    def __init__(
        self,
        sign: Sign,
        tower_id: bytes,
        *,
        now: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not keys.is_xonly(tower_id):
            raise MalformedInput(
                "tower_id is the x-only public key of the tower, 32 bytes; `watchtower init` prints it"
            )
        self._sign = sign
        self._tower_id = tower_id
        self._now = now
        self._random = random
        self._offset = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign; after a refusal for the clock sign once more."""
        self.sign(request)
        response = yield request
        correction = self._correction(response) if response.status_code == 401 else None
        # Nothing told, or the clocks agree already: it was refused for another reason.
        if correction is None or abs(correction - self._offset) < 1.0:
            return
        self._offset = correction
        self.sign(request)
        yield request

    def sign(self, request: httpx.Request) -> None:
        """Put the three headers on a request whose body is complete."""
        unsigned = UnsignedRequest(
            method=request.method,
            tower_key=self._tower_id,
            target=request.url.raw_path,
            body_sha256=body_digest(request.content),
            created=int(self._now() + self._offset),
            nonce=self._random(NONCE_SIZE),
        )
        key, signature = self._sign(request, unsigned)
        headers = SignedHeaders(key, signature, unsigned.nonce, unsigned.body_sha256, unsigned.created)
        request.headers.update(write_headers(headers))

    def _correction(self, response: httpx.Response) -> float | None:
        """Seconds that the tower's clock is ahead, if it tells and the difference can be believed."""
        try:
            told = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
        except ValueError:
            return None
        correction = told - self._now()
        return correction if abs(correction) <= LARGEST_CORRECTION else None


class PartySigner(RequestAuth):
    """Signs with one key; `secret` is that of a channel's auth key (32 bytes)."""

    def __init__(
        self,
        secret: bytes,
        tower_id: bytes,
        *,
        now: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.key = keys.xonly(keys.public_key(secret))

        def sign(_request: httpx.Request, unsigned: UnsignedRequest) -> tuple[bytes, bytes]:
            return self.key, keys.sign_schnorr(secret, unsigned.hash, random(32))

        super().__init__(sign, tower_id, now=now, random=random)

    def __repr__(self) -> str:
        return f"<PartySigner {self.key.hex()}>"


class PartyAuth(RequestAuth):
    """Signs for a party with the key of the channel that a request is about.

    Keys belong to channels: a list of channels or events shows those of the party's first channel only. Before there is
    one, the key of the next channel signs (`ChannelParty.next_auth_key`).
    """

    def __init__(self, party: ChannelParty, tower_id: bytes, *, now: Callable[[], float] = time.time) -> None:
        def sign(request: httpx.Request, unsigned: UnsignedRequest) -> tuple[bytes, bytes]:
            name = _channel_of(request, party)
            return party.sign_early(unsigned) if name is None else party.sign_request(name, unsigned)

        super().__init__(sign, tower_id, now=now)


def _channel_of(request: httpx.Request, party: ChannelParty) -> bytes | None:
    """Channel or proposal id of the channel that a request is about, else that of the party's first channel, if any."""
    named = _CHANNEL.match(request.url.path)
    if named is not None:
        return bytes.fromhex(named[1])
    found = _named_in(request)
    if request.method == "POST" and request.url.path == "/v1/channels":
        return found
    known = party.channels()
    own = {name for channel in known for name in (channel.params.proposal_id, channel.params.channel_id)}
    return found if found in own else (known[0].params.proposal_id if known else None)


def _named_in(request: httpx.Request) -> bytes | None:
    """The channel that the body of a request names, or whoever made it."""
    if request.method != "POST":
        about: bytes | None = request.extensions.get(ABOUT)
        return about
    match request.url.path:
        case "/v1/channels":
            return ChannelParams.decode(bytes(from_json(request.content, RegisterRequest).params)).proposal_id
        case "/v1/proofs/verify":
            proof = bytes(from_json(request.content, VerifyRequest).proof)
            return ProofHead.read(proof).channel_id if len(proof) >= HEAD_SIZE else None
        case "/v1/transactions/validate":
            name = from_json(request.content, ValidateRequest).channel_id or ""
            return bytes.fromhex(name) if WHOLE_ID.fullmatch(name) else None
        case _:
            return None
