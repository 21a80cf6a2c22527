"""Inside a verifying process: a state as a question, and the one answer that counts.

A process says yes or nothing of use. Yes is the hash of the question, so that an answer to another one is none.
No secret is in a question: it holds what both parties of the channel know.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from domain.contract.hashes import sha256
from domain.contract.params import ChannelParams
from domain.errors import DomainError
from domain.opening import StateContent, verify_content
from domain.units import Side
from watchtower.worker import Answering

TARGET = f"{__name__}:answering"
"""What a `Worker` runs."""

KEPT_CHANNELS = 1024
"""Constants of channels that a process keeps, with what follows from them alone."""

NO = b""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """The arguments of `verify_content`; `params` in its 516 bytes."""

    params: bytes
    own_side: Side
    state: StateContent
    peer_point: bytes
    publisher: Side | None


encode_question = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Question).decode
_params = lru_cache(maxsize=KEPT_CHANNELS)(ChannelParams.decode)


def answering() -> Answering:
    """Nothing has to be made before the first question."""
    return answer


def answer(raw: bytes) -> bytes:
    """The hash of the question if all signatures of its state are valid, else `NO`."""
    question = _read(raw)
    try:
        verify_content(
            _params(question.params), question.own_side, question.state, question.peer_point, question.publisher
        )
    except DomainError:
        return NO
    return yes_to(raw)


def yes_to(raw: bytes) -> bytes:
    """The only answer that stands for valid signatures, 32 bytes."""
    return sha256(raw)
