"""What an act ended with, and the forms in which people and programs read it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class ActResult(msgspec.Struct, frozen=True, kw_only=True):
    """One act. Txids in display order, amounts in satoshi; fields that an act does not have are null.

    `milliseconds_to_penalty` runs from the moment when the node has the stale transaction to the moment when the
    penalty is in the node's mempool, both seen from outside the tower.
    """

    name: str
    ok: bool
    summary: str
    channel_id: str | None = None
    breach_txid: str | None = None
    penalty_txid: str | None = None
    breach_height: int | None = None
    penalty_height: int | None = None
    deadline: int | None = None
    recovered_sat: int | None = None
    milliseconds_to_penalty: float | None = None
    close_txid: str | None = None
    close_height: int | None = None
    settlement_txid: str | None = None
    settlement_height: int | None = None
    balances: tuple[int, int] | None = None


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """All acts; `ok` only if the node's own chain shows each outcome."""

    ok: bool
    acts: tuple[ActResult, ...]
    node: str
    seconds: float
    kept: str | None = None


def table_rows(acts: Sequence[ActResult]) -> list[tuple[str, ...]]:
    """Rows for the closing table: narrow enough for a terminal of 80 columns."""
    return [
        (
            act.name.replace("_", " "),
            _text(act.breach_height if act.breach_height is not None else act.close_height),
            _text(act.penalty_height if act.penalty_height is not None else act.settlement_height),
            _text(act.deadline),
            f"{act.recovered_sat:,}" if act.recovered_sat is not None else "",
            f"{act.milliseconds_to_penalty:,.0f} ms" if act.milliseconds_to_penalty is not None else "",
            "ok" if act.ok else "FAILED",
        )
        for act in acts
    ]


HEADINGS = ("act", "close", "answer", "until", "recovered", "in", "")
"""Close and answer are block heights, until is the deadline; recovered in satoshi."""


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
