"""Durable appends and fully verified updates, on both engines, beside what the same processors can at most do.

    appends      already decided events through the group commit: what the log costs
    updates      `accept_state`: decoding, eight signatures, secret, rules, commit, receipt
    stock        the same updates with the library's own `Application.save`, one commit each
    floor        eight signatures per update and nothing else, on all processors

Beside every rate stands the CPU time of this process and of those that verify for it: on a busy machine it says more.
The server's is not in it.
"""

from __future__ import annotations

import gc
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from domain.contract.keys import public_key, sign_schnorr, verify_schnorr
from domain.contract.scripts import funding_output
from domain.events import Envelope, StateUpdated, envelopes
from domain.opening import state_updated
from domain.spending import funding_confirmed
from tests.bench.answers import percentile
from tests.bench.scale import Scale
from tests.bench.steady import cpu_seconds, forget, verifying
from tests.bench.stock import StockStore
from tests.bench.updates import BLOCK, OWNER, made_pair
from tests.support.parties import Pair
from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import new_postgres_log
from tests.support.stores import new_log
from tests.support.towers import LOG_ID, TOWER_KEY, Bench
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import Context
from watchtower.channels.lanes import lanes
from watchtower.channels.reading import content_of
from watchtower.channels.register import register
from watchtower.host.system import processors
from watchtower.ports import EventStore
from watchtower.receipts.signer import ReceiptSigner
from watchtower.repository import Channels
from watchtower.store.create import open_store
from watchtower.store.postgres.event_store import open_server_log
from watchtower.verification.processes import EACH
from watchtower.wire.api import UpdateRequest

KINDS = ("per_s", "p50_ms", "p99_ms", "cpu_ms")
NAMES = (
    *(f"appends_{kind}_sqlite" for kind in KINDS),
    *(f"durable_updates_{kind}_sqlite" for kind in KINDS),
    "bytes_per_update",
    *(f"appends_{kind}_postgres" for kind in KINDS),
    *(f"durable_updates_{kind}_postgres" for kind in KINDS),
    "bytes_per_update_postgres",
    "durable_updates_ratio_to_stock",
    "signature_floor_updates_per_s",
    "signature_floor_cpu_ms",
    "durable_updates_cpu_ratio_to_floor",
)
SIGNATURES = 8
Calls = list[Callable[[], object]]


class Run(msgspec.Struct, frozen=True):
    """So many calls: seconds of all, seconds of each, CPU seconds of our processes."""

    seconds: float
    each: list[float]
    cpu: float

    @property
    def per_s(self) -> float:
        """Calls per second."""
        return len(self.each) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per call."""
        return 1000 * self.cpu / len(self.each)

    def figures(self) -> list[float]:
        """In the order of `KINDS`."""
        p50, p99 = (1000 * percentile(self.each, share) for share in (0.5, 0.99))
        return [round(self.per_s, 1), round(p50, 2), round(p99, 2), round(self.cpu_ms, 3)]


class Engine(msgspec.Struct, frozen=True):
    """What was measured on one of the two engines; `size` is the growth of the log in bytes per append."""

    appended: Run
    size: float
    updated: Run

    def figures(self) -> list[float]:
        """In the order of the names."""
        return [*self.appended.figures(), *self.updated.figures(), round(self.size, 1)]


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; starts a PostgreSQL server of its own. Raises `PostgresNotFound`."""
    pairs = [made_pair(number, scale.durable_updates_each) for number in range(scale.update_channels)]
    floor = _floor(scale)
    engines = _on_sqlite(scale, directory, pairs), _on_postgres(scale, directory, pairs)
    stock = _updates(StockStore(directory / "stock.db"), directory / "stock", pairs)
    return figures(*engines, stock, floor)


def figures(sqlite: Engine, postgres: Engine, stock: Run, floor: Run) -> dict[str, float]:
    """The figures by name."""
    beside = (
        round(sqlite.updated.per_s / stock.per_s, 2),
        round(floor.per_s, 1),
        round(floor.cpu_ms, 3),
        round(sqlite.updated.cpu_ms / floor.cpu_ms, 2),
    )
    return dict(zip(NAMES, [*sqlite.figures(), *postgres.figures(), *beside], strict=True))


def _on_sqlite(scale: Scale, directory: Path, pairs: Sequence[Pair]) -> Engine:
    path = new_log(directory)
    with open_store(path) as store:
        before = _file_size(path)
        appended = _append(store, scale, decided(pairs[0]))
        size = (_file_size(path) - before) / len(appended.each)
        return Engine(appended, size, _updates(store, directory / "sqlite", pairs))


def _on_postgres(scale: Scale, directory: Path, pairs: Sequence[Pair]) -> Engine:
    server = PostgresServer.start()
    try:
        database = server.create_database()
        with open_server_log(new_postgres_log(server, database), directory / "copy.db") as store:
            before = _relation_size(server, database)
            appended = _append(store, scale, decided(pairs[0]))
            size = (_relation_size(server, database) - before) / len(appended.each)
            return Engine(appended, size, _updates(store, directory / "postgres", pairs))
    finally:
        server.close()


def decided(pair: Pair) -> StateUpdated:
    """The event of a real state with the counterparty's revocation of its predecessor, verified before."""
    request = pair.update_request(OWNER, 1)
    secret, following = bytes(request.revoked_secret or b""), bytes(request.next_point or b"")
    return state_updated(content_of(request.state), secret, following, 1_700_000_000_000_000, 1_000_000)


def _append(store: EventStore, scale: Scale, event: StateUpdated) -> Run:
    """Each caller writes its own stream, one event at a time, and waits until it is durable."""

    def append(stream: str, version: int) -> Callable[[], object]:
        job = [Envelope(stream, version, StateUpdated.TOPIC, event)]
        return lambda: store.append(job)

    callers = [store.stream_id("c", bytes([number])) for number in range(scale.update_channels)]
    return run([[append(stream, 1 + number) for number in range(scale.appends_each)] for stream in callers])


def _updates(store: EventStore, directory: Path, pairs: Sequence[Pair]) -> Run:
    """Each caller uploads the states of its own channel, one after the other, and gets a receipt for each."""
    directory.mkdir()
    tower = Bench(directory)
    context = msgspec.structs.replace(
        tower.context, store=store, channels=Channels(store), receipts=ReceiptSigner(TOWER_KEY, LOG_ID, store)
    )
    for pair in pairs:
        tower.node.add_coin(pair.params.funding_outpoint, pair.params.capacity, funding_output(pair.params).spk)
    uploads = [_uploads(context, pair) for pair in pairs]
    with verifying() as processes:
        busy = msgspec.structs.replace(context, verify=processes.verify, lanes=lanes(EACH))
        return run([[partial(accept_state, busy, *each) for each in calls] for calls in uploads])


def _uploads(context: Context, pair: Pair) -> list[tuple[str, UpdateRequest]]:
    register(context, pair.registration(OWNER))
    stream = context.channels.stream_of(pair.params.proposal_id)
    channel = context.channels.load(stream)
    context.store.append(envelopes(stream, channel.version, funding_confirmed(channel, BLOCK, 0)))
    return [(stream, pair.update_request(OWNER, sequence)) for sequence in range(1, pair.sequence + 1)]


def _floor(scale: Scale) -> Run:
    """Eight signatures by one key that is read once, on as many threads as there are processors."""
    secret, message = bytes(range(1, 33)), bytes(32)
    key, signature = public_key(secret)[1:], sign_schnorr(secret, message, bytes(32))

    def verify() -> bool:
        return all(verify_schnorr(key, message, signature) for _ in range(SIGNATURES))

    return run([[verify] * scale.floor_updates for _ in range(processors())])


def run(callers: Sequence[Calls]) -> Run:
    """All calls of each caller in its own thread; what the preparation left behind is forgotten before."""

    def timed(calls: Calls) -> list[float]:
        took = []
        for call in calls:
            began = time.perf_counter()
            call()
            took.append(time.perf_counter() - began)
        return took

    forget()
    gc.collect()
    with ThreadPoolExecutor(len(callers)) as threads:
        began, cpu = time.perf_counter(), cpu_seconds()
        each = [seconds for took in threads.map(timed, callers) for seconds in took]
        return Run(time.perf_counter() - began, each, cpu_seconds() - cpu)


def _file_size(path: Path) -> int:
    """Bytes of the pages in use, also of those that still stand in the log of writes."""
    with closing(sqlite3.connect(path)) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def _relation_size(server: PostgresServer, database: str) -> int:
    """Bytes of events, chain and their indexes."""
    with server.connect(database) as connection:
        row = connection.execute(
            "SELECT pg_total_relation_size('watchtower.wt_events') + pg_total_relation_size('watchtower.commit_chain')"
        ).fetchone()
    assert row is not None
    return int(row[0])
