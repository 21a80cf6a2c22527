"""The use cases of states, challenges, proofs and closes as plain callables for the edges."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from watchtower.channels.challenge import Answered, Challenged, challenge, respond_to_challenge
from watchtower.channels.closing import Closed, close_cooperative, close_unilateral
from watchtower.channels.context import Context
from watchtower.channels.finding import find_stream
from watchtower.channels.inspecting import validate
from watchtower.channels.latest import get_state
from watchtower.channels.proofs import verify
from watchtower.wire.disputes import (
    ChallengeRequest,
    ChannelStateBody,
    CooperativeCloseRequest,
    ResponseRequest,
    UnilateralCloseRequest,
    ValidateBody,
    ValidateRequest,
    VerifyBody,
    VerifyRequest,
)


class Disputes(msgspec.Struct, frozen=True):
    """Called in worker threads. The last argument of `verify` and `validate` is the party that asks, if one does."""

    get_state: Callable[[str], ChannelStateBody]
    challenge: Callable[[str, ChallengeRequest], Challenged]
    respond: Callable[[str, ResponseRequest], Answered]
    close_cooperative: Callable[[str, CooperativeCloseRequest], Closed]
    close_unilateral: Callable[[str, UnilateralCloseRequest], Closed]
    verify: Callable[[VerifyRequest, bytes | None], VerifyBody]
    validate: Callable[[ValidateRequest, bytes | None], ValidateBody]


def bind_disputes(context: Context) -> Disputes:
    """The use cases of one tower."""
    return Disputes(
        get_state=lambda name: get_state(context, find_stream(context, name)),
        challenge=lambda name, request: challenge(context, find_stream(context, name), request),
        respond=lambda name, request: respond_to_challenge(context, find_stream(context, name), request),
        close_cooperative=lambda name, request: close_cooperative(context, find_stream(context, name), request),
        close_unilateral=lambda name, request: close_unilateral(context, find_stream(context, name), request),
        verify=lambda request, owner: verify(context, request, owner),
        validate=lambda request, owner: validate(context, request, owner),
    )
