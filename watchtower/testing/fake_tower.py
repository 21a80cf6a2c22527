"""A tower in this process: the real HTTP application and use cases over a node that is made up."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self, cast

import httpx

from domain.chain import BlockRef, chain_hash
from domain.contract.params import ParamsPolicy, profile_for
from domain.events import envelopes
from domain.spending import funding_confirmed
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.channels.finding import find_stream
from watchtower.host.system import SystemClock
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.services import Standing, bind
from watchtower.keystore import FileKeystore
from watchtower.ports import Node
from watchtower.receipts.signer import ReceiptSigner
from watchtower.receipts.tower_key import TowerKey
from watchtower.repository import Channels
from watchtower.store.create import create_store, open_store
from watchtower.store.views import new_views_file
from watchtower.testing.fake_node import FakeNode

TOKEN = "wt_fake"  # noqa: S105 - opens nothing
TIP = 200


class FakeTower:
    """Use it as a context manager; `StateChannelClient(config, **tower.options)` talks to it."""

    def __init__(self, network: str = "regtest", *, taproot_enabled: bool = True) -> None:
        self.node = FakeNode()
        self._key = TowerKey(secrets.token_bytes(32))
        self.tower_id = self._key.tower_id
        self._network = network
        self._profile = profile_for(taproot_enabled)
        self._mutex = Lock()
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"<FakeTower {self._network}>"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of a client of this tower: url, token, transport, tower_id."""
        app = create_app(self._services, gate=Gate(sha256(TOKEN.encode()).digest()))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return {"url": "http://fake-tower", "token": TOKEN, "transport": transport, "tower_id": self.tower_id}

    def confirm(self, channel_id: str) -> None:
        """The funding of a channel is in a block, deep enough: updates are taken."""
        stream = find_stream(self._context, channel_id)
        channel = self._context.channels.load(stream)
        block = BlockRef(TIP - 5, sha256(b"block").digest())
        events = funding_confirmed(channel, block, SystemClock().wall_microseconds())
        self._context.store.append(envelopes(stream, channel.version, events))
        self._announce(stream)

    def _open(self, stack: ExitStack, directory: Path) -> None:
        log_id, genesis = secrets.token_bytes(16), chain_hash(self._network)
        create_store(
            directory / "events.db",
            origin=f"fake/{self._network}",
            chain_hash=genesis,
            log_id=log_id,
            stream_key=secrets.token_bytes(32),
            recorded_at=SystemClock().wall_microseconds(),
        )
        store = open_store(directory / "events.db", chain_hash=genesis)
        stack.callback(store.close)
        keystore = FileKeystore.create(directory / "keystore", b"fake", cost=2**4)
        stack.callback(keystore.close)
        rows = new_views_file(directory / "views.db", log_id, PROJECTIONS)
        stack.callback(rows.close)
        self._projector = Projector(store, rows, PROJECTIONS)
        self._context = Context(
            store=store,
            node=cast("Node", self.node),
            keystore=keystore,
            clock=SystemClock(),
            channels=Channels(store),
            views=rows,
            policy=ChannelPolicy(ParamsPolicy(genesis, profile=self._profile), 1),
            tip_height=lambda: TIP,
            announce=self._announce,
            receipts=ReceiptSigner(self._key, log_id, store),
        )
        standing = Standing(operational=True, watching=True, phase="watching", height=TIP, tip_hash=bytes(32))
        self._services = bind(
            self._context, lambda: standing, version="fake", network=self._network, tower_id=self.tower_id
        )

    def _announce(self, stream: str) -> None:
        """Read models are current before the answer leaves, so that tests need not wait."""
        del stream
        with self._mutex:
            for _ in self._projector.catch_up():
                pass
