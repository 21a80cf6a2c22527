"""Signs requests to a tower with the auth key of a channel, instead of a token.

    signer = PartySigner(auth_secret, tower_id)
    httpx.AsyncClient(base_url=url, auth=signer)

The tower's id is pinned: a request that was signed for one tower is worth nothing at another one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator
from email.utils import parsedate_to_datetime

import httpx

from domain.contract import keys
from domain.errors import MalformedInput
from watchtower.wire.signed_request import NONCE_SIZE, SignedHeaders, body_digest, request_hash, write_headers

LARGEST_CORRECTION = 86_400.0
"""Seconds. A clock that is further off should be set, not worked around."""


class PartySigner(httpx.Auth):
    """`secret` is that of the channel's auth key (32 bytes), `tower_id` the tower's x-only key (32 bytes).

    If the tower finds the clocks too different, the request is signed once more with the time that the tower tells. A
    tower learns nothing by lying about it: the signature is good at this tower only.
    """

    requires_request_body = True

    def __init__(
        self,
        secret: bytes,
        tower_id: bytes,
        *,
        now: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if len(tower_id) != 32 or not keys.is_xonly(tower_id):
            raise MalformedInput(
                "tower_id is the x-only public key of the tower, 32 bytes; `watchtower init` prints it"
            )
        self.key = keys.xonly(keys.public_key(secret))
        self._secret = secret
        self._tower_id = tower_id
        self._now = now
        self._random = random
        self._offset = 0.0

    def __repr__(self) -> str:
        return f"<PartySigner {self.key.hex()}>"

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
        created, nonce = int(self._now() + self._offset), self._random(NONCE_SIZE)
        digest = body_digest(request.content)
        message = request_hash(request.method, self._tower_id, request.url.raw_path, digest, created, nonce)
        signature = keys.sign_schnorr(self._secret, message, self._random(32))
        request.headers.update(write_headers(SignedHeaders(self.key, signature, nonce, digest, created)))

    def _correction(self, response: httpx.Response) -> float | None:
        """Seconds that the tower's clock is ahead, if it tells and the difference can be believed."""
        try:
            told = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
        except ValueError:
            return None
        correction = told - self._now()
        return correction if abs(correction) <= LARGEST_CORRECTION else None
