"""Wiring of the `eventsourcing` library: the application "wt" with our datastore, recorder and mapper.

Nothing is configured through the environment: a stray variable of the library (cipher, compressor, snapshots,
another database) must not change what is stored. The prefixed names set here win over the process environment.
"""

from __future__ import annotations

from typing import cast

from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory, Mapper
from eventsourcing.sqlite import SQLiteFactory
from eventsourcing.utils import Environment

from watchtower.store.datastore import LogDatastore
from watchtower.store.mapper import EnvelopeMapper
from watchtower.store.recorder import ChainedRecorder

_ENVIRONMENT = {
    "WT_ORIGINATOR_ID_TYPE": "text",
    "WT_IS_SNAPSHOTTING_ENABLED": "n",
    "WT_AGGREGATE_CACHE_MAXSIZE": "",
    "WT_CIPHER_TOPIC": "",
    "WT_COMPRESSOR_TOPIC": "",
    "WT_TRANSCODER_TOPIC": "",
    "WT_CREATE_TABLE": "n",
}


class LogFactory(SQLiteFactory):
    """Hands out recorders on our datastore; makes no table and opens no other file."""

    def __init__(self, env: Environment, datastore: LogDatastore) -> None:
        InfrastructureFactory.__init__(self, env)
        self.datastore: LogDatastore = datastore

    def application_recorder(self) -> ChainedRecorder:
        """The recorder with the commit chain."""
        return ChainedRecorder(self.datastore)


class Log(Application[str]):
    """The library's application around one log file; its name is fixed, a renamed class changes nothing."""

    name = "wt"
    recorder: ChainedRecorder

    def __init__(self, datastore: LogDatastore) -> None:
        self.datastore = datastore
        super().__init__(env=_ENVIRONMENT)
        assert self.snapshots is None
        assert self.mapper.cipher is None
        assert self.mapper.compressor is None

    def construct_factory(self, env: Environment) -> InfrastructureFactory:
        """Our factory, constructed directly instead of by a topic."""
        return cast("InfrastructureFactory", LogFactory(env, self.datastore))

    def construct_mapper(self) -> Mapper[str]:
        """The mapper with the closed topic table."""
        return EnvelopeMapper()
