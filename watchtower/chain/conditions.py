"""Outpoints of conditional outputs: where a preimage may become public, and who takes the output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from domain.conditional import conditional_outputs
from watchtower.ports import ReadModels
from watchtower.repository import Channels


class Conditions(Mapping[bytes, str]):
    """The conditional outputs of all present closes, outpoint to channel. Written by the pass thread, read by any."""

    def __init__(self, channels: Channels, models: ReadModels) -> None:
        self._channels = channels
        self._models = models
        self._streams: dict[bytes, str] = {}

    def __getitem__(self, outpoint: bytes) -> str:
        return self._streams[outpoint]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)

    def refresh(self) -> None:
        """Ask all contested channels."""
        self._streams = {outpoint: s for s in self._models.contested() for outpoint in self._outpoints(s)}

    def note(self, streams: Iterable[str]) -> None:
        """Follow channels with new events; settlement and claim may come in the very next block of a catch-up."""
        touched = set(streams)
        if touched:
            others = {outpoint: s for outpoint, s in self._streams.items() if s not in touched}
            self._streams = others | {outpoint: s for s in sorted(touched) for outpoint in self._outpoints(s)}

    def _outpoints(self, stream: str) -> Iterable[bytes]:
        channel = self._channels.load(stream)
        outputs = conditional_outputs(channel, self._channels.closing_state(channel))
        return (bytes(output.outpoint) for output in outputs)
