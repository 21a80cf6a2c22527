"""Where a penalty's signature comes from: the tower's own key and a revealed secret, or a ladder that was shown."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from domain.channel import Channel, Spend
from domain.contract.commitment import contest_key
from domain.contract.keys import public_key
from domain.contract.penalty import build_penalty, sign_penalty
from domain.contract.revocation import revocation_secret
from domain.ladder import read_rungs, rung_for, rung_penalty
from domain.transaction import Transaction
from watchtower.ports import Rng, WatchtowerError


class Signed(msgspec.Struct, frozen=True):
    """A complete penalty and its fee in satoshi; `rung` is its place in a ladder, None if it was signed here."""

    tx: Transaction
    fee: int
    rung: int | None = None


class Wish(msgspec.Struct, frozen=True):
    """The fee that a penalty should pay, and what it may pay in this block; satoshi."""

    fee: int
    lowest: int
    highest: int


class Signer(msgspec.Struct, frozen=True):
    """`sign` gives the penalty that pays a fee, or the nearest one there is; `top` is the most one can pay, in satoshi.

    None as `top` means that any fee can be signed.
    """

    sign: Callable[[Wish], Signed]
    top: int | None = None


class BidAboveLimit(WatchtowerError):
    """A bid above what its block allows was about to be signed; nothing was. It would be a mistake in the bid."""

    slug = "bid-above-limit"


def signer_of(channel: Channel, breach: Spend, basepoint_secret: bytes | None, rng: Rng) -> Signer | None:
    """How this breach can be punished; None if there is neither key nor ladder."""
    if breach.side is None or breach.sequence is None:
        return None
    revealed = channel.revealed_secret(breach.sequence)
    if basepoint_secret is not None and revealed is not None:
        return Signer(lambda wish: _sign(channel, breach, wish, basepoint_secret, revealed, rng))
    challenge = channel.challenge_of(breach.txid)
    if challenge is None or not challenge.has_ladder:
        return None
    proof = challenge.proof
    return Signer(lambda wish: _from_ladder(channel, breach, proof, wish), read_rungs(proof)[-1].fee)


def _sign(channel: Channel, breach: Spend, wish: Wish, basepoint_secret: bytes, revealed: bytes, rng: Rng) -> Signed:
    assert breach.side is not None  # `signer_of` made sure
    fee = wish.fee
    if fee > wish.highest:  # asked a second time, at the last moment: no bug before this line burns the value
        raise BidAboveLimit(f"a fee of {fee} sat was to be signed where at most {wish.highest} sat are allowed")
    params = channel.params
    key = contest_key(params, breach.side, public_key(revealed))
    unsigned = build_penalty(params, breach.txid, fee, channel.sweep_spk)
    secret = revocation_secret(basepoint_secret, revealed)
    return Signed(sign_penalty(params, unsigned, key, secret, rng(32)), fee)


def _from_ladder(channel: Channel, breach: Spend, proof: bytes, wish: Wish) -> Signed:
    assert breach.side is not None
    assert breach.sequence is not None
    rungs = read_rungs(proof)
    place = rung_for(rungs, wish.fee, wish.lowest, wish.highest)
    key = channel.revocation_key(breach.side, breach.sequence)
    tx = rung_penalty(channel.params, breach.txid, channel.sweep_spk, rungs[place], key)
    return Signed(tx, rungs[place].fee, place)
