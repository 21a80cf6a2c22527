"""Rows of the table of endpoints for receipts."""

from __future__ import annotations

from watchtower.http.endpoint import Endpoint
from watchtower.wire.receipts import ReceiptAnswerBody, SignedReceiptBody

RECEIPTS: tuple[Endpoint, ...] = (
    Endpoint(
        name="get_receipt",
        method="GET",
        path="/v1/receipts/{id}/{number}",
        summary="The receipt of a stored state once more",
        description=(
            "Byte for byte the one that answered the upload. For a state whose predecessor's revocation is stored it "
            "covers that, too. The word `registration` instead of a number asks for the receipt of the registration."
        ),
        scope="channels:read",
        answer=SignedReceiptBody,
        problems=("unknown-state", "receipts-suspended"),
        call=lambda services, call: services.receipts.get(call.name, call.number),
    ),
    Endpoint(
        name="check_receipt",
        method="POST",
        path="/v1/receipts/check",
        summary="What the log holds where a receipt says",
        description=(
            "The tower signs its answer, which names the receipt: together they are a proof if they contradict each "
            "other. Only receipts of this tower are answered, whoever shows them."
        ),
        scope="channels:read",
        parties=True,
        body=SignedReceiptBody,
        answer=ReceiptAnswerBody,
        problems=("invalid-signature", "receipts-suspended"),
        call=lambda services, call: services.receipts.check(call.body),
    ),
)
