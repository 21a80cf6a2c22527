"""What makes a schedule cheap without changing what it does; nothing of it is known to the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from domain.contract import keys
from domain.contract.header import StateHeader
from domain.transaction import Transaction
from projections import watch_set

_parse = lru_cache(maxsize=1 << 14)(Transaction.parse)
_decode = lru_cache(maxsize=1 << 12)(StateHeader.decode)
_curve = {
    name: lru_cache(maxsize=1 << 14)(getattr(keys, name))
    for name in (
        "add_secrets",
        "mul_secrets",
        "public_key",
        "sum_of_products",
        "taproot_tweak",
        "tweak_xonly",
        "verify_schnorr",
        "xonly",
    )
}
"""The same dozen channels are played again and again: their keys and signatures are worked out once."""


@contextmanager
def thrift() -> Iterator[None]:
    """Pure functions of bytes are worked out once, and three channels get no sieve of four megabytes.

    Values are immutable, so sharing them is invisible.
    """
    curve = {name: getattr(keys, name) for name in _curve}
    kept = watch_set.SIEVE_SIZE, Transaction.__dict__["parse"], StateHeader.__dict__["decode"]
    watch_set.SIEVE_SIZE = 1 << 12
    Transaction.parse = _parse  # type: ignore[method-assign,assignment]
    StateHeader.decode = _decode  # type: ignore[method-assign,assignment]
    vars(keys).update(_curve)
    try:
        yield
    finally:
        vars(keys).update(curve)
        watch_set.SIEVE_SIZE = kept[0]
        Transaction.parse, StateHeader.decode = kept[1:]  # type: ignore[method-assign,assignment]
