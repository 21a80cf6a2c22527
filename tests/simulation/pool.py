"""Prepared channels: everything that both parties may publish or upload, signed once per process.

    channel = prepared(3)              # the third channel of the pool; the same in every run
    channel.commitments[n]             # the watched side's commitment of state n, revoked or not
    channel.settlements[n]             # its settlement, valid from h_c + T
    channel.uploads[n - 1]             # what the owner's client uploads for state n

States 0 to 3 are revoked once all uploads are known; state 4 is the newest. Txids are in internal byte order.
"""

from __future__ import annotations

from functools import cache

import msgspec

from domain.claiming import htlc_key_name
from domain.contract.params import ChannelParams
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair
from watchtower.wire.api import RegisterRequest, RevocationRequest, UpdateRequest
from watchtower.wire.hexes import Hex33, SecretHex

POOL = 12
"""Channels in the pool; a schedule takes three neighbors of it."""

REVOKED = 4
"""States 0 to `REVOKED` - 1 are revoked by the later ones."""

PERIODS = (24, 24, 24, 24, 24, 24, 24, 24, 24, 30, 36, 48)
"""Challenge periods in blocks; most are the shortest window for which a fair schedule leaves room."""


class Prepared(msgspec.Struct, frozen=True):
    """One channel from the side of its owner; the other side is the one that may cheat.

    `commitments` are the cheater's, `own_commitments` the owner's; `uploads` are those of states 1 to 4, and the last
    one is of the newest state; `revocations` show the cheater's secret of one state each. `coop` is a cooperative
    close, `secrets` must never be seen anywhere.
    """

    index: int
    owner: Side
    params: ChannelParams
    coin: TxOut
    funding: bytes
    registration: RegisterRequest
    uploads: tuple[UpdateRequest, ...]
    revocations: tuple[RevocationRequest, ...]
    headers: tuple[bytes, ...]
    commitments: tuple[bytes, ...]
    settlements: tuple[bytes, ...]
    own_commitments: tuple[bytes, ...]
    own_settlements: tuple[bytes, ...]
    coop: bytes
    sweep: bytes
    secrets: tuple[bytes, ...]

    @property
    def period(self) -> int:
        """T in blocks."""
        return self.params.challenge_period

    @property
    def proposal_id(self) -> bytes:
        """Natural key of the channel's stream."""
        return self.params.proposal_id


@cache
def prepared(index: int) -> Prepared:
    """A channel of the pool; takes about 50 ms the first time."""
    owner = Side(index % 2)
    names = (f"sim_{index}_a", f"sim_{index}_b")
    feerate = 2000 if index % 3 else 5000
    balances = ((500_000, 500_000), (80_000, 120_000), (3_000_000, 7_000_000))[index % 3]
    pair = open_pair(names=names, challenge_period=PERIODS[index], static_feerate=feerate, balances=balances)
    for number in range(1, REVOKED + 1):
        _update(pair, number, with_htlcs=index % 4 == 3 and number in (1, 3))
    numbers = range(REVOKED + 1)
    thief, funding = owner.other, Transaction.parse(pair.funding.raw)
    secrets = pair.secrets(owner)
    return Prepared(
        index=index,
        owner=owner,
        params=pair.params,
        coin=TxOut(sum(out.value for out in funding.outputs) + 1_000, bytes([0x51, 0x20]) + bytes([index]) * 32),
        funding=pair.funding.raw,
        registration=pair.registration(owner),
        uploads=tuple(pair.update_request(owner, number) for number in numbers if number),
        revocations=tuple(_revocation(pair, thief, number) for number in numbers[:-1]),
        headers=tuple(pair.state(number).content.header for number in numbers),
        commitments=tuple(pair.commitment(thief, number) for number in numbers),
        settlements=tuple(pair.settlement(thief, number) for number in numbers),
        own_commitments=tuple(pair.commitment(owner, number) for number in numbers),
        own_settlements=tuple(pair.settlement(owner, number) for number in numbers),
        coop=pair.close(owner),
        sweep=bytes(pair.registration(owner).sweep_spk),
        secrets=(secrets.rev, secrets.htlc),
    )


def keystore_names(channel: Prepared) -> tuple[bytes, bytes]:
    """Under which names the tower keeps the secrets of `channel.secrets`."""
    return channel.proposal_id, htlc_key_name(channel.proposal_id)


def _revocation(pair: Pair, thief: Side, number: int) -> RevocationRequest:
    return RevocationRequest(
        party="A" if thief is Side.A else "B",
        sequence=number,
        secret=SecretHex(pair.secret(thief, number)),
        next_point=Hex33(pair.point(thief, number + 2)),
    )


def _update(pair: Pair, number: int, *, with_htlcs: bool) -> None:
    if with_htlcs:
        pair.with_htlcs(htlc(Side.A, 2 * number, 20_000, 100_000), htlc(Side.B, 2 * number + 1, 15_000, 100_000))
    else:
        total = sum(pair.balances) + sum(c.amount for c in pair.state(number - 1).content.read_conditions())
        pair.update((total * (number + 1) // 10, total - total * (number + 1) // 10))
