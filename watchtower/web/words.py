"""Numbers, times and hashes as people read them. Pure functions; templates use them as filters."""

from __future__ import annotations

from datetime import UTC, datetime

from domain.chain import display

MINUTES_PER_BLOCK = 10
"""Bitcoin's target; a countdown in hours is an estimate, the one in blocks is the truth."""

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_SIZES = ("bytes", "kB", "MB", "GB", "TB")


def count(number: int, noun: str) -> str:
    """`1 channel`, `12,000 channels`."""
    plural = noun + "es" if noun.endswith(("ch", "sh", "s")) else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def sats(amount: int) -> str:
    """An amount in satoshi with its unit."""
    return f"{amount:,} sat"


def duration(seconds: float) -> str:
    """The largest unit that fits, with the next one while the number is small: `1 hour 20 minutes`, `3 days`."""
    left = max(0, int(seconds))
    for (size, name), below in zip(_UNITS, (*_UNITS[1:], None), strict=True):
        if left >= size:
            number = left // size
            rest = 0 if below is None or number > 2 else (left - number * size) // below[0]
            return count(number, name) + (f" {count(rest, below[1])}" if rest and below is not None else "")
    return "0 seconds"


def ago(seconds: float) -> str:
    """How long something is past, in its largest unit."""
    if seconds < 2:
        return "just now"
    size, name = next(unit for unit in _UNITS if seconds >= unit[0])
    return f"{count(int(seconds // size), name)} ago"


def moment(seconds: float) -> str:
    """A Unix time as `2026-11-22 21:44:58 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(seconds: float) -> str:
    """The time of day of a Unix time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def machine_time(seconds: float) -> str:
    """The value of `<time datetime>`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def bytes_size(number: float) -> str:
    """A size with a decimal unit."""
    for unit in _SIZES[:-1]:
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} {_SIZES[-1]}"


def txid_text(txid: bytes) -> str:
    """A transaction id as explorers show it."""
    return display(txid)


def short(text: str) -> str:
    """Beginning and end of a long id."""
    return text if len(text) <= 20 else f"{text[:8]}…{text[-4:]}"


def words(name: str) -> str:
    """`UNKNOWN_SPEND` → `unknown spend`."""
    return name.lower().replace("_", " ")


def blocks_time(blocks: int, network: str) -> str:
    """How long so many blocks take on average; empty where blocks are made by hand."""
    if network == "regtest":
        return ""
    return f"about {duration(blocks * MINUTES_PER_BLOCK * 60)}"
