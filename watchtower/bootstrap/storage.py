"""The wing that keeps: log, views, keystore, and what is known of the log outside it."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from watchtower.bootstrap.ground import Ground
from watchtower.bootstrap.keys import open_keystore, share_keystore
from watchtower.continuity.continuity import Continuity
from watchtower.continuity.coverage import Coverage
from watchtower.continuity.heads import HeadKeeper, standing_of
from watchtower.continuity.sealing import HeadSealer
from watchtower.host.disk import MEGABYTE, Disk
from watchtower.host.hygiene import PRIVATE_FILES, require_private
from watchtower.host.system import SystemClock
from watchtower.keystore.shared import SharedKeystore
from watchtower.ports import Keystore, StoreLocked
from watchtower.receipts.tower_key import load_tower_key
from watchtower.store.ahead import AheadMark
from watchtower.store.datastore import library_doubt
from watchtower.store.high_water import Comparison
from watchtower.store.overflow import OverflowStore
from watchtower.store.places import Turn, open_log, open_source
from watchtower.store.rebuild import open_views, rebuild
from watchtower.store.segments.source import open_log_files
from watchtower.store.views import SqliteRows
from watchtower.store.writer import LogWriter
from watchtower.telemetry.commit_times import CommitTimes
from watchtower.telemetry.store_meter import StoreMeter
from watchtower.telemetry.tasks import TaskReport

_log = structlog.get_logger(__name__)


class Storage:
    """Opened first, closed last. `overflow` is the log as the tower writes it, `store` the log itself."""

    def __init__(self, ground: Ground, turn: Turn | None) -> None:
        """`turn` is that of a tower that stood by. Raises a typed error that says what to do."""
        self._ground = ground
        settings = ground.settings
        self.chain_stored_at = 0.0
        """Monotonic time of the pass thread's last commit."""
        require_private(Path(settings.data_dir), PRIVATE_FILES)
        self.store = self._open_store(turn)
        self._ahead = AheadMark(Path(settings.views_path))
        self.commits = CommitTimes()
        self.overflow = OverflowStore(self.store, self.release_reserve, self._ahead, self.commits.note)
        self.disk = self._look_after_disk()
        self.tower_key = load_tower_key(settings)
        self.rows = self._open_views()
        self.heads = self._keep_heads()
        self.keystore = self._open_keystore()

    def release_reserve(self) -> bool:
        """Give up the reserved space; False if there is none."""
        return self.disk.release()

    def look(self) -> None:
        """Say whether the database server of the log can be reached, wait for it no longer; called every second."""
        self.store.lose_patience()
        if isinstance(self.keystore, SharedKeystore):
            self.keystore.look()
        away = self.store.away_for()
        if away:
            held = self.overflow.held
            self._ground.board.set("store_unreachable", f"{held} events wait in memory" if held else "")
        else:
            self._ground.board.clear("store_unreachable")

    def _open_store(self, turn: Turn | None) -> LogWriter:
        ground = self._ground

        def chain_stored() -> None:
            self.chain_stored_at = time.monotonic()

        observe = StoreMeter(ground.metrics, chain_stored)
        try:
            store = open_log(ground.settings, observe=observe, failpoint=ground.failpoint, turn=turn)
        except StoreLocked as error:
            _log.critical("store_locked_out", reason=str(error))
            raise
        ground.stack.callback(store.close)
        ground.stack.callback(store.checkpoint)
        if store.damaged:
            ground.board.set("log_damaged", f"channels: {', '.join(sorted(store.damaged))}")
        if doubt := library_doubt():
            _log.warning("config_questioned", reason=doubt)
        _log.info("store_opened", notification_id=store.last_id())
        return store

    def _look_after_disk(self) -> Disk:
        settings, board = self._ground.settings, self._ground.board
        return Disk(
            Path(settings.event_log_path).parent,
            low=settings.store.low_space_mb * MEGABYTE,
            reserve=settings.store.reserve_mb * MEGABYTE,
            alarm=board.set,
            clear=board.clear,
            held=lambda: self.overflow.held_for_space,
        )

    def _open_views(self) -> SqliteRows:
        self._ahead.discard_views()
        path = Path(self._ground.settings.views_path)

        def rebuilt(seconds: float) -> None:
            position = self.store.last_id()
            _log.info("projection_rebuilt", path=path.name, notification_id=position, seconds=round(seconds, 3))

        rows = open_views(path, self.store, failpoint=self._ground.failpoint, rebuilt=rebuilt)
        self._ground.stack.callback(rows.close)
        return rows

    def _keep_heads(self) -> HeadKeeper:
        """Compare the log with its high-water mark before anything is signed about it."""
        ground, file = self._ground, self.store.file
        source = open_log_files(file) if file is not None else open_source(ground.settings)
        ground.stack.callback(source.close)
        standing = standing_of(self.store, self.rows)
        self.continuity = Continuity(Path(ground.settings.high_water_path), source, standing)
        ground.stack.callback(self.continuity.note)
        if self.continuity.verdict is Comparison.DIFFERENT:
            # Views of another history may stand at a position that this log has, too.
            self.rows.close()
            rebuild(Path(ground.settings.views_path), self.store, failpoint=ground.failpoint)
            self.store.known_until = None
            self.rows = self._open_views()
            standing = standing_of(self.store, self.rows)
        clock = SystemClock()
        return HeadKeeper(
            store=self.overflow,  # it refuses while facts of the chain wait: their ids are given already
            continuity=self.continuity,
            coverage=Coverage(standing, self.store, self.rows),
            sealer=HeadSealer(self.overflow, source, standing, self.tower_key.sign, clock),
            board=ground.board,
            clock=clock,
            report=TaskReport(ground.metrics, "heads"),
        )

    def _open_keystore(self) -> Keystore:
        """The file; with a log on a server, secrets go there too, sealed for the towers that stand by."""
        settings, stack = self._ground.settings, self._ground.stack
        keystore = open_keystore(settings)
        stack.callback(keystore.close)
        shared = share_keystore(settings, keystore, self.tower_key, self.store.meta.log_id, stack)
        if shared is None:
            return keystore
        shared.lead()
        return shared
