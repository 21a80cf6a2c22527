"""What a tower that stands by answers."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from watchtower.config.sections import AdminSettings, ApiSettings
from watchtower.config.settings import Settings
from watchtower.http.standby_app import create_standby_app
from watchtower.standby import admin_app
from watchtower.wire.api import ReadyBody

READY = ReadyBody(ready=False, watching=False, phase="starting", reasons=("standby: Another tower leads.",))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("GET", "/healthz", 200, '"alive":true'),
        ("GET", "/readyz", 503, "standby: Another tower leads."),
        ("GET", "/v1/status", 503, "urn:state-channel:standing-by"),
        ("POST", "/v1/channels", 503, "urn:state-channel:standing-by"),
        ("GET", "/", 503, "urn:state-channel:standing-by"),
        ("OPTIONS", "/v1/info", 503, "urn:state-channel:standing-by"),
        ("TRACE", "/v1/info", 405, "urn:state-channel:method-not-allowed"),
    ],
)
async def test_it_is_alive_and_not_ready(method: str, path: str, status: int, part: str) -> None:
    """Every address but two belongs to the tower that leads; a client may come back."""
    transport = httpx.ASGITransport(app=create_standby_app(lambda: READY))
    async with httpx.AsyncClient(transport=transport, base_url="http://standby") as http:
        answer = await http.request(method, path)

    assert status == answer.status_code
    assert part in answer.text
    assert (status == 503 and path != "/readyz") == ("retry-after" in answer.headers)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("require_token", "token", "status"), [(False, "", 200), (True, "", 401), (True, "no", 401), (True, "yes", 200)]
)
async def test_its_metrics_are_as_private_as_those_of_the_tower_that_leads(
    tmp_path: Path, require_token: bool, token: str, status: int
) -> None:
    """`admin.require_token` holds while a tower stands by, too."""
    settings = Settings(
        network="regtest",
        data_dir=str(tmp_path),
        api=ApiSettings(token_hash=sha256(b"yes").hexdigest()),
        admin=AdminSettings(require_token=require_token),
    )
    transport = httpx.ASGITransport(app=admin_app(settings, lambda: b"watchtower_phase 1\n"))
    async with httpx.AsyncClient(transport=transport, base_url="http://standby") as http:
        answer = await http.get("/metrics", headers={"authorization": f"Bearer {token}"} if token else {})

    assert status == answer.status_code
