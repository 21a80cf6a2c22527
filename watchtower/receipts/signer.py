"""Signing receipts: a stored event, its place in the log, and the tower's key.

Receipts are no events. Each is a function of the stored event and the key, so a repeated upload gets the same bytes
again, and a crash between commit and answer costs nothing (docs/receipts.md).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.events import LOG_STREAM, StoreRestored
from watchtower.ports import EventStore, Place, Places
from watchtower.receipts.tower_key import TowerKey

EpochAt = Callable[[int], int]
"""The epoch in which the event at a position was stored."""


class Deposit(msgspec.Struct, frozen=True):
    """What a receipt is about: channel id, state number (or that of a registration), SHA-256 of the upload, height."""

    subject: bytes
    seq: int
    upload_sha256: bytes
    tip_height: int


def epoch_zero(position: int) -> int:
    """The epoch of a log that never was restored."""
    del position
    return 0


def always() -> bool:
    """Receipts may be signed."""
    return True


def nobody_counts() -> None:
    """The default for `signed`."""


class ReceiptSigner:
    """Signs what is durable. Use from any thread: signing belongs to the thread of the request, not to the writer."""

    def __init__(
        self,
        key: TowerKey,
        log_id: bytes,
        places: Places,
        *,
        epoch_at: EpochAt = epoch_zero,
        may_sign: Callable[[], bool] = always,
        signed: Callable[[], None] = nobody_counts,
    ) -> None:
        """`may_sign` is False while the log lacks what receipts were signed for; `signed` is called for each one."""
        self._key, self._log_id, self._places = key, log_id, places
        self._epoch_at, self._may_sign, self._signed = epoch_at, may_sign, signed

    @property
    def tower_id(self) -> bytes:
        """Whose receipts these are (x-only key, 32 bytes)."""
        return self._key.tower_id

    @property
    def log_id(self) -> bytes:
        """The log that they are about (16 bytes)."""
        return self._log_id

    @property
    def may_sign(self) -> bool:
        """Whether receipts are given now."""
        return self._may_sign()

    def epoch_at(self, position: int) -> int:
        """The epoch of the event at a position; for a position behind the log, the present one."""
        return self._epoch_at(position)

    def event_id(self, stream: str, version: int) -> int | None:
        """Id of a stored event."""
        return self._places.event_id(stream, version)

    def place(self, event_id: int) -> Place:
        """Where a stored event stands; raises `StoreError`."""
        return self._places.place(event_id)

    def sign(self, deposit: Deposit, event_id: int) -> SignedReceipt:
        """The receipt of a deposit that the stored event `event_id` completed. Raises `StoreError`."""
        place = self._places.place(event_id)
        receipt = LogReceipt(
            tower_id=self._key.tower_id,
            subject=deposit.subject,
            seq=deposit.seq,
            upload_sha256=deposit.upload_sha256,
            tip_height=deposit.tip_height,
            log_id=self._log_id,
            epoch=self._epoch_at(place.position),
            position=place.position,
            leaf=place.leaf,
            head=place.head,
        )
        signed = self._key.receipt(receipt.encode())
        self._signed()
        return signed

    def seal(self, message: bytes) -> bytes:
        """The tower's signature (64 bytes) of a statement about its log; `message` is a tagged hash (32 bytes)."""
        return self._key.sign(message)


class Epochs:
    """Which epoch an event belongs to: that of the last accepted restore before it."""

    def __init__(self, store: EventStore, present: Callable[[], int]) -> None:
        """`present` is the epoch of what is stored now; while it is 0 the log is not asked."""
        self._store, self._present = store, present
        self._restored: tuple[tuple[int, int], ...] | None = None

    def __call__(self, position: int) -> int:
        """The epoch of the event at a position. Raises `StoreError`."""
        present = self._present()
        if present == 0:
            return 0
        if self._restored is None:  # a restore is accepted while the tower is stopped: once is enough
            self._restored = self._read()
        if not self._restored or position > self._restored[-1][0]:
            return present
        return max((epoch for behind, epoch in self._restored if position > behind), default=0)

    def _read(self) -> tuple[tuple[int, int], ...]:
        payloads = (event.payload for event in self._store.read_stream(LOG_STREAM))
        return tuple((each.position, each.epoch) for each in payloads if isinstance(each, StoreRestored))
