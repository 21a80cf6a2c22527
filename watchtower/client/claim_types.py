"""What a tower did with the conditional outputs of a settled channel."""

from __future__ import annotations

from typing import Literal

import msgspec


class ClaimInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes a conditional output; `type` and `id` name the condition, `fee` in satoshi is of the tower's claim.

    PREPARED is signed, MEMPOOL held by the node; OURS and THEIRS are in a block. `missed`: the counterparty took what
    was the owner's to take.
    """

    settle_txid: str
    type: int
    id: int
    status: Literal["PREPARED", "MEMPOOL", "OURS", "THEIRS"]
    txid: str
    path: Literal["SUCCESS", "TIMEOUT"] | None = None
    fee: int | None = None
    height: int | None = None
    missed: bool = False
