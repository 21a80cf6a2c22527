"""Changed copies of valid input, and how a reader is judged.

    @given(raw=near(VALID))             # random bytes, the original, or changed copies of it
    def test_…(raw): assert_reads(read, write, raw)

A change flips a byte, cuts the end, leaves out, repeats or inserts a piece, or writes an extreme length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from hypothesis import strategies as st

from domain.errors import DomainError

Change = Callable[[bytes], bytes]
EXTREMES = (b"\xff", b"\xfd\xff\xff", b"\xfe\xff\xff\xff\xff", b"\xff" * 9, bytes(8), b"\x00", b"\xfd\x00\x00")
"""Lengths that are too large, zero, or longer than needed."""


def _place(raw: bytes, at: int) -> int:
    return at % (len(raw) + 1)


def flip(at: int, bits: int) -> Change:
    """Some bits of one byte."""

    def change(raw: bytes) -> bytes:
        place = _place(raw, at)
        return raw[:place] + bytes(byte ^ bits for byte in raw[place : place + 1]) + raw[place + 1 :]

    return change


def cut(at: int) -> Change:
    """Everything behind a place is missing."""
    return lambda raw: raw[: _place(raw, at)]


def leave_out(at: int, size: int) -> Change:
    """A piece is missing."""
    return lambda raw: raw[: _place(raw, at)] + raw[_place(raw, at) + size :]


def repeat(at: int, size: int, times: int) -> Change:
    """A piece stands several times."""

    def change(raw: bytes) -> bytes:
        place = _place(raw, at)
        return raw[:place] + raw[place : place + size] * times + raw[place + size :]

    return change


def insert(at: int, piece: bytes) -> Change:
    """A foreign piece is added."""
    return lambda raw: raw[: _place(raw, at)] + piece + raw[_place(raw, at) :]


def overwrite(at: int, piece: bytes) -> Change:
    """A foreign piece stands in the place of as many bytes."""
    return lambda raw: raw[: _place(raw, at)] + piece + raw[_place(raw, at) + len(piece) :]


places = st.integers(0, 2**20) | st.integers(0, 90) | st.integers(0, 2_000)
pieces = st.binary(max_size=40) | st.sampled_from(EXTREMES)
changes = st.one_of(
    st.builds(flip, places, st.integers(1, 255)),
    st.builds(cut, places),
    st.builds(leave_out, places, st.integers(1, 70)),
    st.builds(repeat, places, st.integers(1, 70), st.integers(2, 4)),
    st.builds(insert, places, pieces),
    st.builds(overwrite, places, pieces),
)


def changed(originals: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the originals with up to four changes."""

    def apply(raw: bytes, steps: Sequence[Change]) -> bytes:
        return reduce(lambda so_far, step: step(so_far), steps, raw)

    return st.builds(apply, st.sampled_from(originals), st.lists(changes, max_size=4))


def near(*originals: bytes) -> st.SearchStrategy[bytes]:
    """Changed originals, and random bytes."""
    return changed(originals) | st.binary(max_size=700)


def read_or_none(read: Callable[[Any], Any], raw: Any, refusals: tuple[type[Exception], ...] = (DomainError,)) -> Any:
    """What was read, or None for a typed refusal that says what is wrong; any other exception comes out."""
    try:
        return read(raw)
    except refusals as refusal:
        reason = str(refusal)
    assert reason, "a refusal without a reason"
    return None
