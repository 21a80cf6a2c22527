"""Rows of the table of endpoints for states, challenges, proofs and closes."""

from __future__ import annotations

from watchtower.http.endpoint import Call, Endpoint, Reply
from watchtower.http.services import Services
from watchtower.wire.disputes import (
    ChallengeBody,
    ChallengeRequest,
    ChannelStateBody,
    ClosureBody,
    CooperativeCloseRequest,
    ResponseBody,
    ResponseRequest,
    UnilateralCloseRequest,
    ValidateBody,
    ValidateRequest,
    VerifyBody,
    VerifyRequest,
)
from watchtower.wire.history import AsOfQuery, as_of


def _get_state(services: Services, call: Call) -> ChannelStateBody:
    point = as_of(call.query)
    return services.disputes.get_state(call.name) if point is None else services.past.get_state(call.name, point)


def _challenge(services: Services, call: Call) -> Reply:
    done = services.disputes.challenge(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


def _respond(services: Services, call: Call) -> Reply:
    done = services.disputes.respond(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


def _close_cooperative(services: Services, call: Call) -> Reply:
    done = services.disputes.close_cooperative(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


def _close_unilateral(services: Services, call: Call) -> Reply:
    done = services.disputes.close_unilateral(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


DISPUTES: tuple[Endpoint, ...] = (
    Endpoint(
        name="get_state_of_channel",
        method="GET",
        path="/v1/channels/{id}/state",
        summary="The newest complete state with all signatures",
        description="With a parameter: the one that was the newest as of that point of the tower's log.",
        scope="channels:read",
        query=AsOfQuery,
        answer=ChannelStateBody,
        problems=("unknown-point", "past-too-long"),
        call=_get_state,
    ),
    Endpoint(
        name="challenge",
        method="POST",
        path="/v1/channels/{id}/challenges",
        summary="Show a proof against the commitment that was published",
        description=(
            "Durable when it answers. A proof that can be enforced makes the commitment a breach, and the penalty "
            "follows; evidence alone is stored and sends nothing."
        ),
        scope="channels:write",
        body=ChallengeRequest,
        answer=ChallengeBody,
        problems=("challenge-refused", "node-unavailable", "store-full"),
        call=_challenge,
    ),
    Endpoint(
        name="respond_to_challenge",
        method="POST",
        path="/v1/channels/{id}/challenge-responses",
        summary="Weigh a counter-proof against the newest challenge",
        description="No transaction answers a challenge: the outcome says whether to wait or to concede.",
        scope="channels:write",
        body=ResponseRequest,
        answer=ResponseBody,
        problems=("challenge-refused", "store-full"),
        call=_respond,
    ),
    Endpoint(
        name="close_cooperative",
        method="POST",
        path="/v1/channels/{id}/cooperative-close",
        summary="Publish a close that both parties signed",
        description="Stored, sent, and sent again until it is in a block.",
        scope="channels:write",
        body=CooperativeCloseRequest,
        answer=ClosureBody,
        problems=("invalid-state", "invalid-signature", "channel-closed", "store-full"),
        call=_close_cooperative,
    ),
    Endpoint(
        name="close_unilateral",
        method="POST",
        path="/v1/channels/{id}/unilateral-close",
        summary="Publish the owner's commitment of a state",
        description=(
            "Both signatures are checked on the rebuilt commitment. The settlement follows after the challenge period."
        ),
        scope="channels:write",
        body=UnilateralCloseRequest,
        answer=ClosureBody,
        problems=(
            "self-breach",
            "sequence-gap",
            "channel-not-ready",
            "channel-closed",
            "invalid-signature",
            "store-full",
        ),
        call=_close_unilateral,
    ),
    Endpoint(
        name="verify_proof",
        method="POST",
        path="/v1/proofs/verify",
        summary="What a proof is worth",
        description="Stores nothing and sends nothing. With `params` the tower need not know the channel.",
        scope="channels:read",
        body=VerifyRequest,
        answer=VerifyBody,
        problems=("unknown-channel",),
        parties=True,
        call=lambda services, call: services.disputes.verify(call.body, call.principal.key),
    ),
    Endpoint(
        name="validate_transaction",
        method="POST",
        path="/v1/transactions/validate",
        summary="What a transaction is, and whether every part of it is right",
        description="Stores nothing and sends nothing. Give `txid` or `raw`.",
        scope="channels:read",
        body=ValidateRequest,
        answer=ValidateBody,
        problems=("unknown-channel", "unknown-transaction", "node-unavailable"),
        parties=True,
        call=lambda services, call: services.disputes.validate(call.body, call.principal.key),
    ),
)
