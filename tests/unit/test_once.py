"""A property that is worked out once per instance."""

from __future__ import annotations

import msgspec

from domain.chain import OutPoint
from domain.once import once
from domain.transaction import Transaction, TxIn, TxOut


class Counted:
    """Counts how often its value is worked out."""

    def __init__(self) -> None:
        self.times = 0

    @once
    def value(self) -> int:
        """The number of the attempt."""
        self.times += 1
        return self.times


def test_the_value_is_worked_out_once_per_instance() -> None:
    """A second look finds the kept value; another instance has its own."""
    first, second = Counted(), Counted()

    looks = [first.value, first.value, second.value]

    assert looks == [1, 1, 1]
    assert (first.times, second.times) == (1, 1)


def test_the_class_shows_the_property_itself() -> None:
    """Documentation is that of the function."""
    assert isinstance(Counted.value, once)
    assert Counted.value.__doc__ == "The number of the attempt."


def test_a_changed_copy_works_it_out_again() -> None:
    """What a transaction has kept does not follow it into a copy with other outputs."""
    source = TxIn(OutPoint(bytes(36)), 0)
    one = Transaction(2, (source,), (TxOut(1, b"\x51"),), 0)
    kept = (one.txid, one.outputs_raw)

    other = msgspec.structs.replace(one, outputs=(TxOut(2, b"\x51"),))

    assert other.outputs_raw == TxOut(2, b"\x51").serialize()
    assert other.txid == Transaction(2, (source,), (TxOut(2, b"\x51"),), 0).txid
    assert kept == (one.txid, one.outputs_raw)
