"""Rows of the table of endpoints for preimages of payments."""

from __future__ import annotations

from watchtower.http.endpoint import Call, Endpoint, Reply
from watchtower.http.services import Services
from watchtower.wire.conditions import PreimageAnswer, PreimageRequest, PreimagesBody


def _add_preimage(services: Services, call: Call) -> Reply:
    done = services.preimages.add(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


PREIMAGES: tuple[Endpoint, ...] = (
    Endpoint(
        name="add_preimage",
        method="POST",
        path="/v1/channels/{id}/preimages",
        summary="Hand over a preimage",
        description=(
            "It opens an HTLC of a stored state. After a close the tower claims with it, in every channel of this "
            "tower with the same payment hash. The same preimage again gets the same answer."
        ),
        scope="channels:write",
        body=PreimageRequest,
        answer=PreimageAnswer,
        problems=("invalid-secret", "store-full"),
        call=_add_preimage,
    ),
    Endpoint(
        name="get_preimages",
        method="GET",
        path="/v1/channels/{id}/preimages",
        summary="Known preimages of a channel's pending HTLCs",
        description=(
            "Learned from transactions in any channel of this tower, or handed over; and what is missing. A party is "
            "told of preimages that are public or were handed over for its own channel."
        ),
        scope="channels:read",
        answer=PreimagesBody,
        call=lambda services, call: services.preimages.get(call.name, call.principal.is_party),
    ),
)
