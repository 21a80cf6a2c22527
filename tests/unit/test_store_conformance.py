"""The library's own test cases for recorders, run on ours."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock
from uuid import uuid4

from eventsourcing.sqlite import SQLiteTrackingRecorder

from projections.catalog import PROJECTIONS
from watchtower.store import schema
from watchtower.store.datastore import LogDatastore, connect
from watchtower.store.recorder import ChainedRecorder
from watchtower.store.views import new_views_file

# The library's test module imports its AES cipher, which needs a package that we do not install; no case here uses it.
_cipher = ModuleType("eventsourcing.cipher")
_cipher.AESCipher = object  # type: ignore[attr-defined]
with mock.patch.dict(sys.modules, {"eventsourcing.cipher": _cipher}):
    from eventsourcing.tests.persistence import (
        ApplicationRecorderTestCase,
        NonInterleavingNotificationIDsBaseCase,
        TrackingRecorderTestCase,
    )


class _EmptyLog:
    """Makes recorders on a log file that has tables and no event."""

    def new_originator_id(self) -> str:
        """Text ids, as our streams have them."""
        return uuid4().hex

    def setUp(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._datastores: list[LogDatastore] = []

    def tearDown(self) -> None:
        for datastore in self._datastores:
            datastore.close()
        self._directory.cleanup()

    def create_recorder(self) -> ChainedRecorder:
        """A recorder on a new file."""
        path = Path(self._directory.name) / f"{uuid4().hex}.db"
        path.touch()
        connection = connect(path, read_only=False)
        for statement in schema.statements():
            connection.execute(statement)
        connection.execute(
            "INSERT INTO log_meta VALUES (1, ?, 'test', 0, 0, 1, ?, ?, 1)", (bytes(16), bytes(32), bytes(32))
        )
        connection.close()
        self._datastores.append(LogDatastore(path))
        return ChainedRecorder(self._datastores[-1])


class TestApplicationRecorder(_EmptyLog, ApplicationRecorderTestCase[Any]):
    """Inserting, selecting, limits, conflicts, concurrent writers and readers."""

    def test_insert_subscribe(self) -> None:
        """A subscription yields stored and new notifications in order."""
        self.optional_test_insert_subscribe()


class TestNonInterleavingIds(_EmptyLog, NonInterleavingNotificationIDsBaseCase):
    """Ids of one job are not interleaved with those of another."""


class TestTrackingOfViews(_EmptyLog, TrackingRecorderTestCase):
    """Positions only grow, one row per projection."""

    def create_recorder(self) -> SQLiteTrackingRecorder:  # type: ignore[override]
        """Tracking rows of a new views file."""
        rows = new_views_file(Path(self._directory.name) / "views.db", bytes(16), PROJECTIONS)
        self._datastores.append(rows.datastore)
        return rows.tracking


del ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase, TrackingRecorderTestCase
