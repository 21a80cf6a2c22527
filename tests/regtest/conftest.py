"""A real node for the tests of this folder; skipped without one, unless STATE_CHANNEL_REQUIRE_NODE=1."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.regtest.world import World
from tests.support.new_towers import create
from tests.support.programs import missing
from tests.support.service import Run, ServiceProcess, settings_for
from watchtower.devnode.provision import Found, NodeNotFound, find
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder `regtest`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.regtest)


@pytest.fixture(scope="session")
def bitcoind_path() -> Found:
    """The bitcoind that the tests use: `.path`, `.version`, `.origin`."""
    try:
        return find()
    except NodeNotFound as error:
        missing(error)


@pytest.fixture(scope="session")
def prepared_chain(bitcoind_path: Found, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped data directory with a funded wallet; nodes start from copies of it."""
    return RegtestNode.make_prepared(tmp_path_factory.mktemp("chain") / "prepared", bitcoind_path)


class MakeWorld(Protocol):
    """Starts a further world of the test; keyword arguments as in `World`."""

    def __call__(self, **options: Any) -> World:
        """A world on the node of the test, with a directory of its own."""


@pytest.fixture
def make_world(node: RegtestNode, tmp_path: Path) -> Iterator[MakeWorld]:
    """Worlds with faults; all end with the test."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(node, tmp_path / f"tower{len(made)}", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


class StartNode(Protocol):
    """Starts a further node of the test; keyword arguments as in `RegtestNode.start`."""

    def __call__(self, **options: Any) -> RegtestNode:
        """A running node with a funded wallet and a data directory of its own."""


@pytest.fixture
def start_node(bitcoind_path: Found, prepared_chain: Path, tmp_path: Path) -> Iterator[StartNode]:
    """Start nodes with other options than `node` has; all end with the test."""
    started: list[RegtestNode] = []

    def start(**options: Any) -> RegtestNode:
        datadir = tmp_path / f"node{len(started)}"
        started.append(RegtestNode.start(datadir, prepared=prepared_chain, binary=bitcoind_path, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()
        shutil.rmtree(each.datadir, ignore_errors=True)  # 17 MB each; pytest keeps the folders of three runs


@pytest.fixture
def node(start_node: StartNode) -> RegtestNode:
    """A fresh regtest node with Bitcoin Core's relay policy and a funded wallet."""
    return start_node()


@pytest.fixture
def knots_default_node(start_node: StartNode, bitcoind_path: Found) -> RegtestNode:
    """As `node`, but with Knots' own relay policy; skipped when the binary is not Knots."""
    if "Knots" not in bitcoind_path.version:
        pytest.skip("the node is not Bitcoin Knots")
    return start_node(knots_default_policy=True)


@pytest.fixture
def world(node: RegtestNode, tmp_path: Path) -> Iterator[World]:
    """A node, a tower and its files, for one story."""
    story = World(node, tmp_path / "tower")
    yield story
    story.close()


@pytest.fixture
def tower(node: RegtestNode, tmp_path: Path) -> NewTower:
    """A new tower's files, set to the node."""
    return create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest", settings_for(node))


@pytest.fixture
def run() -> Iterator[Run]:
    """Start services; all end with the test."""
    started: list[ServiceProcess] = []

    def begin(config: Path, environ: Mapping[str, str] | None = None) -> ServiceProcess:
        started.append(ServiceProcess(config, environ))
        return started[-1]

    yield begin
    for each in started:
        each.close()
