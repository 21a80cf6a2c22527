"""Wiring of the `eventsourcing` library: the application "wt" with a recorder and a mapper of ours.

Nothing is configured through the environment: a stray variable of the library (cipher, compressor, snapshots,
another database) must not change what is stored. The prefixed names set here win over the process environment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from eventsourcing.application import Application
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    Mapper,
    ProcessRecorder,
    StoredEvent,
    TrackingRecorder,
)
from eventsourcing.utils import Environment

from watchtower.store.errors import StoreCheckFailed
from watchtower.store.mapper import EnvelopeMapper
from watchtower.store.recorders import Recorder

_ENVIRONMENT = {
    "WT_ORIGINATOR_ID_TYPE": "text",
    "WT_IS_SNAPSHOTTING_ENABLED": "n",
    "WT_AGGREGATE_CACHE_MAXSIZE": "",
    "WT_CIPHER_TOPIC": "",
    "WT_COMPRESSOR_TOPIC": "",
    "WT_TRANSCODER_TOPIC": "",
    "WT_CREATE_TABLE": "n",
}


class GivenRecorder(InfrastructureFactory[TrackingRecorder]):
    """Hands out the one recorder that was made; makes no table and opens nothing."""

    def __init__(self, env: Environment, recorder: ApplicationRecorder) -> None:
        super().__init__(env)
        self._recorder = recorder

    def application_recorder(self) -> ApplicationRecorder:
        """The recorder with the commit chain."""
        return self._recorder

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """There are no snapshots."""
        raise NotImplementedError(purpose)

    def tracking_recorder(self, tracking_recorder_class: type[TrackingRecorder] | None = None) -> TrackingRecorder:
        """Views keep their positions elsewhere."""
        raise NotImplementedError

    def process_recorder(self) -> ProcessRecorder:
        """Views keep their positions elsewhere."""
        raise NotImplementedError


class LogRecorder(Recorder, Protocol):
    """A recorder of ours that is also one of the library's."""

    def select_events(
        self,
        originator_id: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Events of a stream; the library's `EventStore` asks for them."""


class Log(Application[str]):
    """The library's application around one recorder; its name is fixed, a renamed class changes nothing."""

    name = "wt"
    recorder: LogRecorder  # type: ignore[assignment]

    def __init__(self, recorder: LogRecorder, close: Callable[[], None]) -> None:
        """`close` ends the connections of the recorder."""
        self._given, self._close = recorder, close
        super().__init__(env=_ENVIRONMENT)
        if self.snapshots is not None or self.mapper.cipher is not None or self.mapper.compressor is not None:
            raise StoreCheckFailed(
                "library", "snapshots, a cipher or a compressor of the library are on; the log has none"
            )

    def construct_factory(self, env: Environment) -> InfrastructureFactory:
        """Our factory, constructed directly instead of by a topic."""
        return GivenRecorder(env, cast("ApplicationRecorder", self._given))

    def construct_mapper(self) -> Mapper[str]:
        """The mapper with the closed topic table."""
        return EnvelopeMapper()

    def close(self) -> None:
        """End the application, then the connections."""
        super().close()
        self._close()
