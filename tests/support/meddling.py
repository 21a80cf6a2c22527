"""A tower whose receipts somebody changes on their way, and its client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec

from domain.contract.receipts import SignedReceipt
from tests.support.parties import Pair
from tests.support.receipts import TOWER, UPLOAD, receipt_of
from tests.support.towers import TOKEN, TOWER_KEY, Bench
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.tower.receipts import Expected, ReceiptBook, ReceiptText
from watchtower.receipts.tower_key import TowerKey

REGTEST = StateChannelConfig(network="regtest")


STRANGER = TowerKey(bytes(31) + b"\x09")


Change = Callable[[SignedReceipt], SignedReceipt | None]


class Meddler(httpx.AsyncBaseTransport):
    """Carries everything, and changes the receipts in the answers once `change` is set."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.change: Change | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry, and meddle."""
        answer = await self.inner.handle_async_request(request)
        if self.change is None or not request.url.path.endswith(("/states", "/channels")) or request.method != "POST":
            return answer
        document = json.loads(await answer.aread())
        told = document["receipt"]
        made = self.change(SignedReceipt(bytes.fromhex(told["body"]), bytes.fromhex(told["signature"])))
        document["receipt"] = None if made is None else {"body": made.body.hex(), "signature": made.signature.hex()}
        return httpx.Response(answer.status_code, json=document)


def changed(key: TowerKey = TOWER_KEY, **fields: object) -> Change:
    """A receipt that says something else, signed by this key."""

    def change(signed: SignedReceipt) -> SignedReceipt:
        values = {name: value(signed.read()) if callable(value) else value for name, value in fields.items()}
        return key.receipt(msgspec.structs.replace(signed.read(), **values).encode())

    return change


def client_of(
    tower: Bench, pair: Pair | None, transport: httpx.AsyncBaseTransport | None = None, **options: Any
) -> Any:
    """A client of this tower with B's party."""
    party = pair.b if pair else None
    carried = transport or tower.transport()
    return StateChannelClient(REGTEST, url="http://tower", token=TOKEN, party=party, transport=carried, **options)


def text_of(signed: SignedReceipt) -> ReceiptText:
    """As it stands in an answer."""
    return ReceiptText(signed.body.hex(), signed.signature.hex())


def taken(book: ReceiptBook, sequence: int, **fields: object) -> SignedReceipt:
    """Let the book check a good receipt of a state, and note it."""
    upload = fields.get("upload_sha256", UPLOAD)
    assert isinstance(upload, bytes)
    signed = book.check(
        text_of(receipt_of(bytes(32), sequence, **fields)),  # type: ignore[arg-type]
        Expected(TOWER, bytes(32), sequence, upload),
    )
    book.note(signed.read())
    return signed
