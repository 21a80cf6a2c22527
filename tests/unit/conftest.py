"""What the tests of the API share. A file that needs another channel or tower has a fixture of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.parties import Pair, open_pair
from tests.support.towers import Bench


@pytest.fixture
def pair() -> Pair:
    """A channel of 1,000,000 sat with state 0."""
    return open_pair()


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


@pytest_asyncio.fixture
async def http(tower: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that tower."""
    async with tower.http() as client:
        yield client
