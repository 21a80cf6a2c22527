"""Channel constants: the 516-byte `ChannelParams`, their rules, and what follows from them alone.

Nothing here changes after the opening. A is the opener, B the acceptor (protocol 2.1, 2.2).
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from domain.chain import NULL_TXID, OutPoint, make_outpoint
from domain.contract import keys
from domain.contract.hashes import sha256, tagged_hash
from domain.errors import InvalidParams, MalformedInput
from domain.units import Side, ceil_div

PARAMS_SIZE = 516
KEY_BLOCK_SIZE = 206
SPK_FIELD_SIZE = 43
ANCHOR_SAT = 240
"""Value of the P2A anchor: its dust limit, so it is never dust (protocol 3.3)."""

P2A_SPK = bytes.fromhex("51024e73")
UNKNOWN_VOUT = 0xFFFFFFFF
TAPROOT, SEGWIT = 0, 1
"""Profiles: SCT-P and SCT-P/v0 (protocol annex C)."""

COMMITMENT_VSIZES = (166, 163)
"""Size of a commitment in vB by profile; segwit v0 with the longest signatures (protocol 3.2, C.3)."""

FLAG_RESCUE_LEAF = 1
FLAG_ONCHAIN_STATE = 2
FLAG_HTLC_PRESIGNED = 4

MIN_FEERATE, MAX_FEERATE = 1000, 50_000
"""Bounds of `static_feerate` in sat per 1000 vB."""

MIN_RESERVE = 1660
"""Two P2TR dust limits and 1000 sat, so that a party always has something to lose."""

WARN_BELOW_CAPACITY = 20_000
"""Below it a penalty at 100 sat/vB can cost more than the channel holds (protocol 0.1)."""


class KeyBlock(msgspec.Struct, frozen=True):
    """Public keys of one party (33, 33, 32, 33, 32 bytes) and its fixed payout script."""

    fund: bytes
    rev: bytes
    settle: bytes
    htlc: bytes
    auth: bytes
    payout: bytes

    def encode(self) -> bytes:
        """206 bytes."""
        return self.fund + self.rev + self.settle + self.htlc + self.auth + spk_field(self.payout)

    @classmethod
    def decode(cls, raw: bytes) -> KeyBlock:
        """Read 206 bytes; lengths and padding are checked, the points are checked by `check_params`."""
        if len(raw) != KEY_BLOCK_SIZE:
            raise MalformedInput(f"a key block has {KEY_BLOCK_SIZE} bytes, got {len(raw)}")
        payout = read_spk_field(raw[163:])
        return cls(raw[:33], raw[33:66], raw[66:98], raw[98:131], raw[131:163], payout)

    @property
    def all_xonly(self) -> tuple[bytes, ...]:
        """The five keys as x coordinates, in the order fund, rev, settle, htlc, auth."""
        return (self.fund[1:], self.rev[1:], self.settle, self.htlc[1:], self.auth)


class ChannelParams(msgspec.Struct, frozen=True, dict=True, cache_hash=True):
    """Constants of a channel. Amounts in satoshi, `challenge_period` in blocks, hashes in internal order.

    `static_feerate` is in sat per 1000 vB, `profile` is 0 (taproot) or 1 (segwit v0). While the funding outpoint is
    unknown, `funding_txid` is 32 zero bytes and `funding_vout` is 0xffffffff; the channel is then named by
    `proposal_id`.
    """

    chain_hash: bytes
    funding_txid: bytes
    funding_vout: int
    capacity: int
    challenge_period: int
    reserve_sat: int
    keys_a: KeyBlock
    keys_b: KeyBlock
    static_feerate: int = 2000
    flags: int = 0
    profile: int = 0

    def encode(self) -> bytes:
        """The 516 bytes of version 1; `MalformedInput` if a field does not fit its place."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        try:
            head = b"".join(
                (
                    bytes((1, self.profile)),
                    self.chain_hash + self.funding_txid + self.funding_vout.to_bytes(4, "little"),
                    self.capacity.to_bytes(8, "little") + self.challenge_period.to_bytes(2, "little"),
                    self.static_feerate.to_bytes(4, "little") + ANCHOR_SAT.to_bytes(8, "little"),
                    self.reserve_sat.to_bytes(8, "little") + self.flags.to_bytes(4, "little"),
                )
            )
        except (OverflowError, ValueError):
            raise MalformedInput("a channel constant does not fit its field of ChannelParams") from None
        encoded = head + self.keys_a.encode() + self.keys_b.encode()
        if len(head) != 104 or len(encoded) != PARAMS_SIZE:
            raise MalformedInput("a hash or key of the channel constants has a wrong length")
        return encoded

    @classmethod
    def decode(cls, raw: bytes) -> ChannelParams:
        """Read exactly 516 bytes; `MalformedInput` on wrong form, `InvalidParams` on values out of range."""
        if len(raw) != PARAMS_SIZE:
            raise MalformedInput(f"ChannelParams has {PARAMS_SIZE} bytes, got {len(raw)}")
        if raw[0] != 1:
            raise MalformedInput(f"ChannelParams version 1 is understood, got {raw[0]}")
        if _u(raw, 84, 8) != ANCHOR_SAT:
            raise InvalidParams(f"anchor_sat must be {ANCHOR_SAT}, got {_u(raw, 84, 8)}")
        params = cls(
            profile=raw[1],
            chain_hash=raw[2:34],
            funding_txid=raw[34:66],
            funding_vout=_u(raw, 66, 4),
            capacity=_u(raw, 70, 8),
            challenge_period=_u(raw, 78, 2),
            static_feerate=_u(raw, 80, 4),
            reserve_sat=_u(raw, 92, 8),
            flags=_u(raw, 100, 4),
            keys_a=KeyBlock.decode(raw[104:310]),
            keys_b=KeyBlock.decode(raw[310:516]),
        )
        check_fixed_rules(params)
        return params

    @cached_property
    def channel_id(self) -> bytes:
        """Name of the channel, 32 bytes."""
        return tagged_hash("SCT1/channel", self.encode())

    @cached_property
    def proposal_id(self) -> bytes:
        """Name of the channel while its funding outpoint is unknown, 32 bytes."""
        return tagged_hash("SCT1/proposal", self.with_funding(NULL_TXID, UNKNOWN_VOUT).encode())

    @cached_property
    def funding_outpoint(self) -> OutPoint:
        """The outpoint that holds the capacity."""
        return make_outpoint(self.funding_txid, self.funding_vout)

    @property
    def is_funding_known(self) -> bool:
        """Whether the funding outpoint was filled in."""
        return self.funding_txid != NULL_TXID

    def with_funding(self, txid: bytes, vout: int) -> ChannelParams:
        """The same constants with a funding outpoint."""
        return msgspec.structs.replace(self, funding_txid=txid, funding_vout=vout)

    def keys(self, side: Side) -> KeyBlock:
        """Key block of one side."""
        return self.keys_a if side is Side.A else self.keys_b

    @cached_property
    def mask48(self) -> int:
        """Mask that hides the state number in a commitment (protocol 2.4); not a tagged hash."""
        low, high = sorted((self.keys_a.rev, self.keys_b.rev))
        return int.from_bytes(sha256(b"SCT1/obscure" + low + high)[26:], "big")

    @property
    def commitment_vsize(self) -> int:
        """Size in vB that the fee of a commitment is computed with."""
        return COMMITMENT_VSIZES[self.profile]

    @property
    def commitment_fee(self) -> int:
        """F_c: fee of a commitment in satoshi, whatever path signs it."""
        return ceil_div(self.static_feerate * self.commitment_vsize, 1000)

    @property
    def contest_value(self) -> int:
        """V: value of the contest output in satoshi."""
        return self.capacity - ANCHOR_SAT - self.commitment_fee

    @property
    def has_rescue_leaf(self) -> bool:
        """Flag bit 0: the contest output has a second leaf for a joint settlement before T."""
        return bool(self.flags & FLAG_RESCUE_LEAF)

    @property
    def has_onchain_state(self) -> bool:
        """Flag bit 1: settlements carry a hash of the state."""
        return bool(self.flags & FLAG_ONCHAIN_STATE)


class ParamsPolicy(msgspec.Struct, frozen=True):
    """What this installation accepts: its chain, capacities in satoshi, challenge periods in blocks.

    `profile` is that of new channels (0 or 1); None takes both.
    """

    chain_hash: bytes
    min_capacity: int = 10_000
    max_capacity: int = 100_000_000
    min_challenge_period: int = 1
    max_challenge_period: int = 65_535
    profile: int | None = None


def check_params(params: ChannelParams, policy: ParamsPolicy) -> None:
    """Raise `InvalidParams`, naming the field and the cure, if a channel must not use these constants."""
    check_fixed_rules(params)
    if params.chain_hash != policy.chain_hash:
        raise InvalidParams("chain_hash names another network than the one that is configured here")
    if policy.profile is not None and params.profile != policy.profile:
        raise InvalidParams(
            f"new channels have profile {policy.profile} here, this one has {params.profile}; taproot_enabled chooses: "
            "true is profile 0 (taproot), false is profile 1 (segwit v0)"
        )
    if not policy.min_capacity <= params.capacity <= policy.max_capacity:
        raise InvalidParams(
            f"capacity {params.capacity} sat is outside {policy.min_capacity} … {policy.max_capacity} sat"
        )
    if not policy.min_challenge_period <= params.challenge_period <= policy.max_challenge_period:
        allowed = f"{policy.min_challenge_period} … {policy.max_challenge_period} blocks"
        raise InvalidParams(f"challenge period {params.challenge_period} is outside {allowed}")
    if not 0 <= params.reserve_sat <= params.capacity:
        raise InvalidParams(f"reserve_sat {params.reserve_sat} is above the capacity {params.capacity}")
    _check_keys(params)


def check_fixed_rules(params: ChannelParams) -> None:
    """The rules that no configuration can change: profile, flags, ranges, payout scripts."""
    if params.profile not in (TAPROOT, SEGWIT):
        raise InvalidParams(f"profile {params.profile} is unknown; use profile 0 (taproot) or 1 (segwit v0)")
    if params.flags & FLAG_HTLC_PRESIGNED:
        raise InvalidParams("flag htlc_presigned is not supported; clear bit 2 of flags")
    if params.flags & ~(FLAG_RESCUE_LEAF | FLAG_ONCHAIN_STATE):
        raise InvalidParams(f"flags {params.flags:#x} has reserved bits set; only bits 0 and 1 may be used")
    if params.profile == SEGWIT and params.flags & FLAG_RESCUE_LEAF:
        raise InvalidParams("flag rescue_leaf needs taproot; clear bit 0 of flags or use profile 0")
    if not 1 <= params.challenge_period <= 65_535:
        raise InvalidParams(f"challenge period {params.challenge_period} is outside 1 … 65535 blocks")
    if not MIN_FEERATE <= params.static_feerate <= MAX_FEERATE:
        allowed = f"{MIN_FEERATE} … {MAX_FEERATE} sat per 1000 vB"
        raise InvalidParams(f"static_feerate {params.static_feerate} is outside {allowed}")
    if params.contest_value <= 0:
        raise InvalidParams(f"capacity {params.capacity} sat does not cover the fee of a commitment")
    for block in (params.keys_a, params.keys_b):
        check_payout_script(block.payout)


def check_payout_script(spk: bytes) -> None:
    """Raise `InvalidParams` unless a payout or sweep script is a witness program of at most 42 bytes, not P2A."""
    if spk == P2A_SPK:
        raise InvalidParams("a payout script must not be P2A: anybody could take the money")
    if not is_witness_program(spk):
        raise InvalidParams("a payout script must be a witness program: use a P2TR or P2WPKH address")


def is_witness_program(spk: bytes) -> bool:
    """Whether this is `OP_0` with 20 or 32 bytes, or `OP_1` … `OP_16` with 2 … 40 bytes."""
    if not 4 <= len(spk) <= 42 or spk[1] != len(spk) - 2:
        return False
    return spk[1] in (20, 32) if spk[0] == 0 else 0x51 <= spk[0] <= 0x60


def profile_for(taproot_enabled: bool) -> int:
    """The profile of new channels under the setting `taproot_enabled`."""
    return TAPROOT if taproot_enabled else SEGWIT


def default_reserve(capacity: int) -> int:
    """Reserve in satoshi that a party must leave itself: 1 % of the capacity, at least 1660."""
    return max(capacity // 100, MIN_RESERVE)


def default_challenge_period(capacity: int) -> int:
    """Challenge period in blocks scaled with the capacity, 144 … 2016 (protocol 2.2)."""
    return min(max(2016 * capacity // 16_777_215, 144), 2016)


def spk_field(spk: bytes) -> bytes:
    """A script of at most 42 bytes as length, script and zero padding, 43 bytes."""
    if len(spk) > SPK_FIELD_SIZE - 1:
        raise MalformedInput(f"a script of {len(spk)} bytes does not fit; at most 42 bytes are allowed")
    return bytes((len(spk),)) + spk.ljust(SPK_FIELD_SIZE - 1, b"\x00")


def read_spk_field(field: bytes) -> bytes:
    """The script of a 43-byte field; `MalformedInput` on wrong length or padding."""
    if len(field) != SPK_FIELD_SIZE or field[0] >= SPK_FIELD_SIZE:
        raise MalformedInput("a script field has 43 bytes and starts with a length of at most 42")
    if any(field[1 + field[0] :]):
        raise MalformedInput("a script field is padded with something else than zeros")
    return field[1 : 1 + field[0]]


def _check_keys(params: ChannelParams) -> None:
    seen: dict[bytes, str] = {}
    for side in Side:
        block = params.keys(side)
        for name, key in zip(("fund", "rev", "settle", "htlc", "auth"), block.all_xonly, strict=True):
            label = f"{name}_{side.name}"
            if key in seen:
                raise InvalidParams(f"{label} repeats {seen[key]}; every key must be used once")
            seen[key] = label
        for name, point in (("fund", block.fund), ("rev", block.rev), ("htlc", block.htlc)):
            if not keys.is_public_key(point):
                raise InvalidParams(f"{name}_{side.name} is not a compressed point of the curve")
        for name, point in (("settle", block.settle), ("auth", block.auth)):
            if not keys.is_xonly(point):
                raise InvalidParams(f"{name}_{side.name} is not an x coordinate of the curve")


def _u(raw: bytes, start: int, size: int) -> int:
    return int.from_bytes(raw[start : start + size], "little")
