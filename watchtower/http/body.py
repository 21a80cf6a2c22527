"""Reading a request body: its type, its size while it streams in, the time it takes."""

from __future__ import annotations

import asyncio
import json

from starlette.requests import ClientDisconnect, Request

from domain.errors import MalformedInput
from watchtower.http.problems import EdgeRefusal

MAX_BODY = 262_144
"""64 KiB of state data are 128 KiB of hexadecimal; the rest is for 200 conditions and eight signatures."""

BODY_SECONDS = 5.0


def check_announced(request: Request, limit: int) -> None:
    """Refuse what the headers tell already: no JSON, or packed JSON (415), or more bytes than allowed (413)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise EdgeRefusal("unsupported-media-type", "send Content-Type: application/json")
    # A few bytes could be unpacked to any size; nothing here would unpack them anyway.
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise EdgeRefusal("unsupported-media-type", "send the body as it is, without Content-Encoding")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)


async def read_body(request: Request, limit: int = MAX_BODY, seconds: float = BODY_SECONDS) -> bytes:
    """The body as it arrived; refuses with 408, 413 or 400."""
    try:
        async with asyncio.timeout(seconds):
            return await _collect(request, limit)
    except TimeoutError:
        raise EdgeRefusal("request-timeout", f"the body did not arrive within {seconds:g} seconds") from None
    except ClientDisconnect:
        raise EdgeRefusal("malformed", "the connection ended before the body did") from None


async def _collect(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def refuse_repeated_names(raw: bytes) -> None:
    """Raise `MalformedInput` if an object of a document that was read already has a name twice.

    Readers disagree about which value counts: what a proxy or an auditor saw need not be what was taken.
    """
    try:
        json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MalformedInput(f"the message cannot be read: {error}") from None


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("an object has the same name twice")


def _too_large(limit: int) -> EdgeRefusal:
    return EdgeRefusal("too-large", f"the body may have at most {limit} bytes")
