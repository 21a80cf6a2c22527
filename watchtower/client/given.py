"""Values as a program gives them. Python keeps none out, so a wrong one is refused before anything is built or sent."""

from __future__ import annotations

from collections.abc import Sequence

from domain.errors import InvalidState, MalformedInput

SHOWN = 80
"""Characters of a wrong value in an error."""


def require_whole(name: str, *amounts: object) -> None:
    """Raise `MalformedInput` unless all are whole satoshi; `5.0` is not, for it equals 5 but has no bytes."""
    for amount in amounts:
        if type(amount) is not int:
            raise MalformedInput(f"{name}: whole satoshi as int, got {amount!r:.{SHOWN}}")


def require_number(name: str, number: object) -> None:
    """Raise `MalformedInput` unless it is a whole number from 0 on; True is none, though it equals 1."""
    if type(number) is not int or number < 0:
        raise MalformedInput(f"{name}: a whole number from 0 on, got {number!r:.{SHOWN}}")


def balance_pair(name: str, balances: Sequence[int]) -> tuple[int, int]:
    """The balances of A and B in satoshi. `InvalidState` for another count, `MalformedInput` for other values."""
    given: object = balances
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise MalformedInput(f"{name}: the balances of A and B, got {given!r:.{SHOWN}}")
    if len(balances) != 2:
        raise InvalidState(f"a channel has two balances, got {len(balances)}")
    require_whole(name, *balances)
    return balances[0], balances[1]


def data_of(state_data: str | bytes) -> bytes:
    """The application's bytes; `MalformedInput` for a text that has no UTF-8 form and for what is neither."""
    given: object = state_data
    if isinstance(given, str):
        try:
            return given.encode()
        except UnicodeEncodeError as error:
            raise MalformedInput(f"state_data has no UTF-8 form: {error.reason} at {error.start}") from None
    if not isinstance(given, bytes):
        raise MalformedInput(f"state_data: a text or bytes, got {given!r:.{SHOWN}}")
    return given
