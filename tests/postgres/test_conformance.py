"""The library's own test cases for recorders, run on ours as the role wt_app."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest

from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import migrated
from watchtower.store.postgres.connection import connect
from watchtower.store.postgres.create import name_log
from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.recorder import PostgresRecorder
from watchtower.store.recorders import LogMeta

# The library's test module imports its AES cipher, which needs a package that we do not install; no case here uses it.
_cipher = ModuleType("eventsourcing.cipher")
_cipher.AESCipher = object  # type: ignore[attr-defined]
with mock.patch.dict(sys.modules, {"eventsourcing.cipher": _cipher}):
    from eventsourcing.tests.persistence import ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase


class _EmptyLog:
    """Makes recorders on a log that has a name and no event."""

    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer) -> None:
        self._postgres = postgres

    def new_originator_id(self) -> str:
        """Text ids, as our streams have them."""
        return uuid4().hex

    def setUp(self) -> None:
        self._datastores: list[LogDatastore] = []
        self._databases: list[str] = []

    def tearDown(self) -> None:
        for datastore in self._datastores:
            datastore.close()
        for database in self._databases:
            self._postgres.drop_database(database)

    def create_recorder(self) -> PostgresRecorder:
        """A recorder on a new database, several of which may write in turn."""
        self._databases.append(self._postgres.create_database())
        url = migrated(self._postgres, self._databases[-1])
        with connect(url) as connection:
            name_log(connection, LogMeta(bytes(16), "test", 0, 0, 1, bytes(32), bytes(32), 1))
        self._datastores.append(LogDatastore(url))
        return PostgresRecorder(self._datastores[-1])


class TestApplicationRecorder(_EmptyLog, ApplicationRecorderTestCase[Any]):
    """Inserting, selecting, limits, conflicts, concurrent writers and readers."""

    def test_insert_subscribe(self) -> None:
        """A subscription yields stored and new notifications in order."""
        self.optional_test_insert_subscribe()


class TestNonInterleavingIds(_EmptyLog, NonInterleavingNotificationIDsBaseCase):
    """Ids of one job are not interleaved with those of another."""


del ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase
