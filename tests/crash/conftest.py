"""One real node for all stories of a file: each story begins with a new tower at the node's present tip."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.regtest.conftest import bitcoind_path, node, prepared_chain, run, start_node, tower, world
from watchtower.devnode.provision import Found
from watchtower.devnode.regtest import RegtestNode

__all__ = ["bitcoind_path", "node", "prepared_chain", "run", "start_node", "tower", "world"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder `regtest`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.regtest)


@pytest.fixture(scope="module")
def shared_node(
    bitcoind_path: Found, prepared_chain: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegtestNode]:
    """A node that many towers meet one after the other."""
    datadir = tmp_path_factory.mktemp("shared") / "node"
    started = RegtestNode.start(datadir, prepared=prepared_chain, binary=bitcoind_path)
    yield started
    started.close()
    shutil.rmtree(datadir, ignore_errors=True)
