"""The channel of profile 1 in the vectors: the same parties and keys as in profile 0, other scripts."""

from __future__ import annotations

from typing import Any

from domain.chain import display
from domain.contract.params import ChannelParams
from domain.contract.state import StateHeader
from domain.transaction import Transaction
from tests.contract_vectors.load import load, raw

VECTORS: dict[str, Any] = load("sct_p_v0")
SEGWIT = ChannelParams.decode(raw(VECTORS["channel"]["channel_params"]))


def segwit_header(sequence: int) -> StateHeader:
    """Header of one of the states 0 … 6."""
    return StateHeader.decode(raw(VECTORS["states"][sequence]["state_header"]))


def shape(tx: Transaction) -> dict[str, object]:
    """Everything that the vectors say about a complete transaction."""
    return {
        "txid": display(tx.txid),
        "tx_nowitness": tx.serialize(witness=False).hex(),
        "witness": [item.hex() for item in tx.inputs[0].witness],
        "tx": tx.serialize().hex(),
        "weight": tx.weight,
        "vsize": tx.vsize,
    }
