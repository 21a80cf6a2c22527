"""Who may ask: a bearer token made by `watchtower init`, of which the service knows only the SHA-256."""

from __future__ import annotations

import hmac
from hashlib import sha256

from starlette.requests import Request

from watchtower.http.problems import EdgeRefusal

SCHEME = "bearer "
MAX_TOKEN = 512


def require_token(request: Request, token_sha256: bytes) -> None:
    """Raise a 401 refusal unless the request carries the token. The comparison takes constant time."""
    header = request.headers.get("authorization", "")
    if not header.lower().startswith(SCHEME) or len(header) > MAX_TOKEN:
        raise EdgeRefusal("unauthorized", "send the header Authorization: Bearer wt_… with the token of this tower")
    token = header[len(SCHEME) :].strip()
    if not hmac.compare_digest(sha256(token.encode()).digest(), token_sha256):
        raise EdgeRefusal("unauthorized", "the token is not valid for this tower")
