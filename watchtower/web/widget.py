"""The tower in four fields, for the home screens of node platforms: the shape that Umbrel calls `four-stats`."""

from __future__ import annotations

import msgspec

from watchtower.store.summary import Summary
from watchtower.web.verdict import PROTECTED, Danger, Verdict
from watchtower.web.words import count


class Item(msgspec.Struct, frozen=True):
    """One field."""

    title: str
    text: str
    subtext: str


class Widget(msgspec.Struct, frozen=True):
    """`refresh` is how long the platform may keep it; `link` is below the app's own address."""

    items: tuple[Item, ...]
    type: str = "four-stats"
    refresh: str = "10s"
    link: str = ""


def widget(verdict: Verdict, sums: Summary, danger: Danger, height: int, lag: int | None) -> Widget:
    """The fields in words and numbers."""
    number = sum(sums.channels.get(status, 0) for status in PROTECTED)
    left = danger.blocks_left
    deadline = "none open" if not sums.breaches else "answered" if not danger.unanswered else "not in a block yet"
    return Widget(
        (
            Item("Protected", verdict.answer, verdict.headline),
            Item("Channels", f"{number:,}", "watched"),
            Item("Breaches", f"{len(sums.breaches):,}", deadline if left is None else f"{count(left, 'block')} left"),
            Item("Block", f"{height:,}", "up to date" if not lag else f"{count(lag, 'block')} behind"),
        )
    )
