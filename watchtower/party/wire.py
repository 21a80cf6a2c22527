"""Calls, answers and faults as lines of JSON, and errors as faults."""

from __future__ import annotations

import functools
import operator
from typing import Any

import msgspec

from domain.errors import DomainError, MalformedInput
from watchtower.client.errors import ConfigurationError, StateChannelError, TowerProblem, TowerUnreachable, WrongTower
from watchtower.client.peer_errors import PeerRefused, PeerSilent, PeerUnreachable, TransportClosed
from watchtower.keystore import KeystoreLocked
from watchtower.party import calls, paying, questions
from watchtower.party.calls import Call
from watchtower.party.faults import FAILED, NOT_READY, UNREACHABLE, USAGE, CallFailed, Fault
from watchtower.ports import NodeUnavailable, StoreLocked, WatchtowerError
from watchtower.wire.hexes import decoder, from_json, to_json

LIMIT = 16 * 2**20
"""Bytes of a line: a transaction, a proof or a long history fits."""

KINDS: tuple[type[Call], ...] = tuple(
    found
    for module in (calls, paying, questions)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Call) and found is not Call and found.__module__ == module.__name__
)

_calls = decoder(functools.reduce(operator.or_, KINDS))


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The document that a call gave, or the fault that it ended with."""

    result: Any = None
    fault: Fault | None = None

    def unpack(self) -> Any:
        """The document; raises `CallFailed`."""
        if self.fault is not None:
            raise CallFailed(self.fault)
        return self.result


def encode_call(call: Call) -> bytes:
    """One line."""
    return to_json(call) + b"\n"


def decode_call(line: bytes) -> Call:
    """The call in a line; `MalformedInput` says what is wrong with it."""
    try:
        call: Call = _calls.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedInput(f"the call cannot be read: {type(error).__name__}") from None
    return call


def encode_answer(answer: Answer) -> bytes:
    """One line."""
    return to_json(answer) + b"\n"


def decode_answer(line: bytes) -> Answer:
    """The answer in a line."""
    return from_json(line, Answer)


def fault_of(error: StateChannelError | DomainError | WatchtowerError | TimeoutError) -> Fault:
    """An error of a call for the command that made it."""
    if isinstance(error, CallFailed):
        return error.fault
    if isinstance(error, TimeoutError):
        return Fault("timed-out", f"{str(error) or 'it did not happen in time'}; what was begun goes on")
    return Fault(_slug(error), str(error), _exit_code(error))


def _slug(error: StateChannelError | DomainError | WatchtowerError) -> str:
    if isinstance(error, DomainError | WatchtowerError | TowerProblem) and not isinstance(error, PeerRefused):
        return error.slug
    name = type(error).__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


def _exit_code(error: Exception) -> int:
    if isinstance(error, ConfigurationError | WrongTower):
        return USAGE
    if isinstance(error, StoreLocked | KeystoreLocked):
        return NOT_READY
    if isinstance(error, TowerUnreachable | PeerUnreachable | PeerSilent | TransportClosed | NodeUnavailable):
        return UNREACHABLE
    return FAILED
