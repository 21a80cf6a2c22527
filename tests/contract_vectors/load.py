"""The vector files beside the tests, read once, and the two parties that they describe."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from domain.contract.conditions import Condition
from domain.contract.derivation import ChannelSecrets
from domain.contract.params import ChannelParams
from domain.contract.revocation import commitment_point
from domain.contract.state import StateHeader
from domain.units import Side

ZERO = bytes(32)
VECTORS = Path(__file__).parent / "vectors"


@cache
def load(name: str) -> Any:
    """A vector file, parsed."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def raw(text: str) -> bytes:
    """Bytes of a hexadecimal string."""
    return bytes.fromhex(text)


def internal(text: str) -> bytes:
    """Internal byte order of a txid in display order."""
    return bytes.fromhex(text)[::-1]


def _secrets(side: Side) -> ChannelSecrets:
    party = load("keys")[side.name]
    roles = (raw(party[role]["sk"]) for role in ("fund", "rev", "settle", "htlc", "auth"))
    return ChannelSecrets(*roles, seed=raw(party["seed"]), payout=ZERO, sweep=ZERO)


PARAMS = ChannelParams.decode(raw(load("channel")["channel"]["channel_params"]))
SECRETS = {side: _secrets(side) for side in Side}
SWEEP = {side: raw(load("keys")[side.name]["sweep_spk"]) for side in Side}


def points(sequence: int) -> tuple[bytes, bytes]:
    """Per-commitment points of A and B."""
    return commitment_point(SECRETS[Side.A].seed, sequence), commitment_point(SECRETS[Side.B].seed, sequence)


def conditions_of(state: dict[str, Any]) -> list[Condition]:
    """Conditions of a state in the vectors."""
    return [
        Condition(entry["type"], entry["id"], entry["expiry"], entry["amount_sat"], raw(entry["hash"]))
        for entry in state["conds"]
    ]


def state_vector(sequence: int) -> dict[str, Any]:
    """One of the states 0 … 6."""
    found: dict[str, Any] = load("states")["states"][sequence]
    return found


def header_of(sequence: int) -> StateHeader:
    """Header of one of the states 0 … 6."""
    return StateHeader.decode(raw(state_vector(sequence)["state_header"]))
