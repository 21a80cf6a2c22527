"""How far a long command has come, on stderr: a bar for people, lines for logs and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal, TextIO

Style = Literal["bar", "plain", "json", "none"]

EVERY = 10.0
"""Seconds between two lines in style `plain`."""

BLINK = 0.1
"""Least seconds between two pictures of the bar."""

WIDTH = 24
"""Characters of the bar."""


def style_for(wanted: Style | None, stream: TextIO) -> Style:
    """The style asked for, else a bar on a terminal and lines elsewhere."""
    return wanted or ("bar" if stream.isatty() else "plain")


class Progress:
    """Shows `done` of `total` items of a stage. `clock` gives seconds that never run back."""

    def __init__(self, style: Style, stream: TextIO, clock: Callable[[], float]) -> None:
        self._style, self._stream, self._clock = style, stream, clock
        self._stage, self._total, self._before = "", 0, 0
        self._began = self._shown_at = clock()
        self._is_drawn = False

    def begin(self, stage: str, total: int, done: int = 0) -> None:
        """Start a stage of `total` items, of which `done` were done in an earlier run."""
        self._close_line()
        self._stage, self._total, self._before = stage, total, done
        self._began = self._shown_at = self._clock()

    def show(self, done: int) -> None:
        """So many items are done now; shown if it is time to."""
        now = self._clock()
        wait = {"bar": BLINK, "plain": EVERY, "json": 0.0, "none": float("inf")}[self._style]
        if now - self._shown_at < wait and done < self._total:
            return
        if self._style == "none" or (self._style == "plain" and done >= self._total):
            return
        self._shown_at = now
        self._write(done, now - self._began)

    def end(self) -> None:
        """Leave the cursor at the beginning of a line."""
        self._close_line()

    def _write(self, done: int, seconds: float) -> None:
        rate = (done - self._before) / seconds if seconds > 0 else 0.0
        left = (self._total - done) / rate if rate > 0 else None
        if self._style == "bar":
            filled = WIDTH * done // self._total if self._total else WIDTH
            bar = "#" * filled + "." * (WIDTH - filled)
            remaining = "" if left is None else f", {left:.0f} s left"
            text = f"{self._stage} [{bar}] {done:,} of {self._total:,}, {rate:,.0f}/s{remaining}"
            self._stream.write(f"\r{text}\x1b[K")
            self._is_drawn = True
        elif self._style == "json":
            line = {"stage": self._stage, "position": done, "of": self._total, "rate": round(rate)}
            self._stream.write(json.dumps(line) + "\n")
        else:
            self._stream.write(f"progress stage={self._stage} position={done} of={self._total} rate={rate:.0f}\n")
        self._stream.flush()

    def _close_line(self) -> None:
        if self._is_drawn:
            self._stream.write("\n")
            self._stream.flush()
            self._is_drawn = False
