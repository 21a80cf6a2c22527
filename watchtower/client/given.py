"""Values as a program gives them. Python keeps none out, so a wrong one is refused before anything is built or sent."""

from __future__ import annotations

from collections.abc import Sequence

from domain.errors import InvalidParams, InvalidState, MalformedInput
from watchtower.client.types import ChannelParams, ChannelParticipant

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


def texts(name: str, given: object) -> tuple[str, ...]:
    """The texts of a sequence; `MalformedInput` for anything else, a single text among it."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise MalformedInput(f"{name}: a list of texts, or () for none, got {given!r:.{SHOWN}}")
    for each in given:
        if not isinstance(each, str):
            raise MalformedInput(f"{name}: a list of texts, got {each!r:.{SHOWN}} in it")
    return tuple(given)


def participant_pair(params: ChannelParams) -> tuple[ChannelParticipant, ChannelParticipant]:
    """A and B. `InvalidParams` for another count, `MalformedInput` for values that are no participants."""
    given: object = params.participants
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise MalformedInput(f"participants: two of ChannelParticipant, A first, got {given!r:.{SHOWN}}")
    if len(given) != 2:
        raise InvalidParams(f"a channel has two participants, got {len(given)}")
    for who in given:
        if not isinstance(who, ChannelParticipant) or not isinstance(who.pubkey, str):
            raise MalformedInput(f"participants: ChannelParticipant(pubkey, initial_balance), got {who!r:.{SHOWN}}")
        require_whole("initial_balance", who.initial_balance)
    return given[0], given[1]


def require_text(name: str, text: object) -> None:
    """Raise `MalformedInput` unless it is a text."""
    if not isinstance(text, str):
        raise MalformedInput(f"{name}: a text, got {text!r:.{SHOWN}}")


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
