"""A party's keys: derived from the seed in its keystore, one channel index per opening, none twice."""

from __future__ import annotations

from collections.abc import Sequence

from domain.contract.derivation import channel_keys
from domain.contract.hashes import tagged_hash
from domain.contract.params import check_payout_script
from domain.errors import UnknownChannel
from watchtower.client.party.settings import PartySettings
from watchtower.client.protocol.opening import OwnKeys, own_script
from watchtower.keystore import KeystoreError
from watchtower.ports import Keystore

SEED_NAME = tagged_hash("state-channel/party/seed", b"")
"""Keystore entry of the seed."""

COIN_TYPES = {"mainnet": 0}


def index_name(channel_index: int) -> bytes:
    """Keystore entry that marks a channel index as used, also by an opening that was given up."""
    return tagged_hash("state-channel/party/index", channel_index.to_bytes(4, "big"))


EPOCH = 1_704_067_200
"""First of January 2024 in Unix seconds."""


def floor_name(number: int) -> bytes:
    """Keystore entry of the lowest channel index that may be used since restore `number` (0, 1, …)."""
    return tagged_hash("state-channel/party/floor", number.to_bytes(4, "big"))


SKIP = 2**16
"""Indexes between one floor and the next: more channels than a party opens between two restores."""


class ClockBehind(KeystoreError):
    """The clock of this machine shows a time that has long passed."""

    slug = "clock-behind"


def raise_floor(keystore: Keystore, now: int) -> int:
    """Skip every channel index that a restored party may have used after its backup; returns the new floor.

    `now` in Unix microseconds. Raises `ClockBehind`.
    """
    floors = _floors(keystore)
    floor = restored_floor(now, floors)
    keystore.put(floor_name(len(floors)), floor.to_bytes(4, "big"))
    return floor


def restored_floor(now: int, floors: Sequence[int] = ()) -> int:
    """The lowest index for new channels after a restore now (Unix microseconds), when `floors` were those before.

    What was used is not known any more, and an index must never be used twice (protocol 2.1). The floor is the time of
    the restore in seconds since 2024: no party opens a channel per second, and the indexes last until 2092. A clock
    that was set back since the last restore is not believed. Raises `ClockBehind` for a time before 2024: the indexes
    that were used first would be used again.
    """
    seconds = now // 1_000_000 - EPOCH
    if seconds <= 0:
        raise ClockBehind("the clock of this machine is years behind; set it, then restore again")
    return max(seconds, *(floor + SKIP for floor in floors)) if floors else seconds


def _floors(keystore: Keystore) -> list[int]:
    found: list[int] = []
    while (stored := keystore.get(floor_name(len(found)))) is not None:
        found.append(int.from_bytes(stored, "big"))
    return found


class KeyRing:
    """Keys by channel index. Called under the party's lock; a keystore without a seed is `UnknownChannel`."""

    def __init__(self, keystore: Keystore, settings: PartySettings) -> None:
        if keystore.get(SEED_NAME) is None:
            raise UnknownChannel("the keystore holds no seed; make one with create_seed first")
        self._keystore = keystore
        self._settings = settings
        self._known: dict[int, OwnKeys] = {}
        self._next_index = max(_floors(keystore), default=0)

    def __repr__(self) -> str:
        return f"<KeyRing {self._settings.network}>"

    def of(self, channel_index: int) -> OwnKeys:
        """The keys of an index, with the scripts that the party wants to be paid to."""
        known = self._known.get(channel_index)
        if known is not None:
            return known
        seed = self._keystore.get(SEED_NAME)
        assert seed is not None, "checked when the ring was made"
        derived = channel_keys(seed, COIN_TYPES.get(self._settings.network, 1), channel_index)
        payout = self._settings.payout_spk or own_script(derived.payout)
        sweep = self._settings.sweep_spk or own_script(derived.sweep)
        check_payout_script(payout)
        check_payout_script(sweep)
        own = OwnKeys(channel_index, derived, payout, sweep)
        self._known[channel_index] = own
        return own

    def upcoming(self) -> OwnKeys:
        """The keys that `fresh` would give now; nothing is marked."""
        while self._keystore.get(index_name(self._next_index)) is not None:
            self._next_index += 1
        return self.of(self._next_index)

    def fresh(self) -> OwnKeys:
        """Keys of an index that was never used; it is marked durably before anything leaves."""
        while self._keystore.get(index_name(self._next_index)) is not None:
            self._next_index += 1
        self._keystore.put(index_name(self._next_index), b"\x01")
        return self.of(self._next_index)

    def preimage(self, salt: bytes) -> bytes:
        """The preimage (32 bytes) of a payment that this party makes; the log keeps the salt and not the preimage."""
        seed = self._keystore.get(SEED_NAME)
        assert seed is not None, "checked when the ring was made"
        return tagged_hash("state-channel/party/preimage", seed + salt)
