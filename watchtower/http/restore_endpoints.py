"""Rows of the table of endpoints for a tower whose log was restored."""

from __future__ import annotations

from watchtower.http.endpoint import Call, Endpoint, Reply
from watchtower.http.services import Services
from watchtower.wire.restores import ConfirmationAnswer, ConfirmationRequest


def _confirm(services: Services, call: Call) -> Reply:
    done = services.confirm(call.name, call.body)
    return Reply(done.answer, replayed=done.duplicate)


RESTORES: tuple[Endpoint, ...] = (
    Endpoint(
        name="confirm",
        method="POST",
        path="/v1/channels/{id}/confirmations",
        summary="Say that the tower lacks nothing",
        description=(
            "Asked for while `behind_receipts` of the tower is not null: after a restore each owner uploads what is "
            "missing and then confirms the channel. Without such a question it changes nothing."
        ),
        scope="channels:write",
        body=ConfirmationRequest,
        answer=ConfirmationAnswer,
        problems=("sequence-gap", "store-full"),
        call=_confirm,
    ),
)
