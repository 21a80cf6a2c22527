"""Reading a request body: its type, its size while it streams in, the time it takes, its form."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from watchtower.http.problems import EdgeRefusal
from watchtower.wire.hexes import T, from_json

MAX_BODY = 262_144
"""64 KiB of state data are 128 KiB of hexadecimal; the rest is for 200 conditions and eight signatures."""

BODY_SECONDS = 5.0


async def read_body(request: Request, form: type[T], limit: int = MAX_BODY) -> T:
    """The body as a struct; refuses with 408, 413, 415 or 400."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise EdgeRefusal("unsupported-media-type", "send Content-Type: application/json")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await _collect(request, limit)
    except TimeoutError:
        raise EdgeRefusal("request-timeout", f"the body did not arrive within {BODY_SECONDS:g} seconds") from None
    except ClientDisconnect:
        raise EdgeRefusal("malformed", "the connection ended before the body did") from None
    return from_json(raw, form)


async def _collect(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> EdgeRefusal:
    return EdgeRefusal("too-large", f"the body may have at most {limit} bytes")
