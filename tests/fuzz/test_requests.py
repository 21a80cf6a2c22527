"""Requests of strangers, byte by byte: headers and addresses, and bodies that were good once."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from domain.units import Side
from tests.fuzz.mutations import changed, near
from tests.support.parties import open_pair
from tests.support.proofs import secret_proof
from tests.support.towers import TOKEN, Bench
from watchtower.wire.disputes import ChallengeRequest, ValidateRequest, VerifyRequest
from watchtower.wire.hexes import Hex, ParamsHex, TransactionHex, to_json
from watchtower.wire.signed_request import SignedHeaders, write_headers

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SIGNED = write_headers(SignedHeaders(b"\x02" * 32, bytes(64), bytes(16), bytes(32), 1_700_000_000))
TOKEN_HEADER = (b"authorization", f"Bearer {TOKEN}".encode())
ADDRESSES = (b"/v1/channels/", b"/v1/events?after=", b"/v1/liquidity?x=", b"/metrics", b"/")


class Doors(NamedTuple):
    """A tower, its API, and good bodies by address."""

    bench: Bench
    app: Starlette
    good: list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    """A tower with a channel of two states, and good bodies for its addresses."""
    pair = open_pair()
    bench = Bench(Path(tmp_path_factory.mktemp("tower")))
    name = bench.registered(pair)
    pair.updates(2)
    proof = Hex(secret_proof(pair, 0))
    signatures = [Hex(pair.state(1).sigs_a.commit_peer), Hex(pair.state(1).sigs_b.commit_peer)]
    close = {"sequence": 1, "signatures": signatures}
    good = [
        ("/v1/channels", to_json(pair.registration(Side.B))),
        (f"/v1/channels/{name}/states", to_json(pair.update_request(Side.B, 1))),
        (f"/v1/channels/{name}/revocations", to_json(pair.release_request(Side.B, 0))),
        (f"/v1/channels/{name}/challenges", to_json(ChallengeRequest(sequence=0, proof=proof))),
        (f"/v1/channels/{name}/unilateral-close", to_json(close)),
        ("/v1/proofs/verify", to_json(VerifyRequest(proof=proof, params=ParamsHex(pair.params.encode())))),
        ("/v1/transactions/validate", to_json(ValidateRequest(raw=TransactionHex(pair.commitment(Side.A, 1))))),
    ]
    return Doors(bench, bench.app, good)


class Answer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        """The request was taken."""
        return 200 <= self.status < 300


def ask(doors: Doors, method: str, target: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    """What the API answers to exactly these bytes, which no client would send."""
    path, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("tower", 80),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False} if len(sent) == 0 else await forever()

    async def forever() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(doors.app(scope, receive, send))
    return Answer(sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]))


def assert_typed(answer: Answer) -> None:
    """A success, or a refusal of the request with its name."""
    assert answer.status < 500, answer.body
    assert answer.is_success or json.loads(answer.body)["type"].startswith("urn:state-channel:")


@SHARED
@given(data=st.data())
def test_changed_bodies_are_refused_or_taken(doors: Doors, data: st.DataObject) -> None:
    """Any byte of a good body may differ; what is refused is not stored."""
    target, body = data.draw(st.sampled_from(doors.good))
    foreign = data.draw(changed([body]))
    before = doors.bench.store.last_id()

    answer = ask(doors, "POST", target.encode(), foreign, (b"content-type", b"application/json"), TOKEN_HEADER)

    assert_typed(answer)
    assert answer.is_success or before == doors.bench.store.last_id()


letters = st.binary(max_size=60).map(lambda raw: bytes(byte for byte in raw if byte not in b"\r\n\0"))


def headers_near(*originals: str) -> st.SearchStrategy[bytes]:
    """Changed headers without what no server lets through."""
    return near(*(each.encode() for each in originals)).map(lambda raw: raw.translate(None, b"\r\n\0").strip())


@SHARED
@given(
    method=st.sampled_from(["GET", "HEAD", "DELETE"]),
    target=st.builds(lambda start, rest: start + quote(rest).encode(), st.sampled_from(ADDRESSES), letters),
    token=headers_near("Bearer wt_abc"),
)
def test_changed_addresses_and_tokens_are_refused(doors: Doors, method: str, target: bytes, token: bytes) -> None:
    """Paths and queries of strangers: without a good token nothing is told."""
    assert ask(doors, method, target, b"", (b"authorization", token)).status < 500


@SHARED
@given(last=headers_near("17"), query=letters)
@example(last="\u00b2".encode("latin-1"), query=b"")
@example(last=b"9" * 5_000, query=b"")
@example(last=b"", query=b"9" * 5_000)
def test_positions_in_a_stream_are_read_or_refused(doors: Doors, last: bytes, query: bytes) -> None:
    """`Last-Event-ID` and `after` of somebody with a token; HEAD asks without reading the stream."""
    target = b"/v1/events?after=" + quote(query).encode()
    answer = ask(doors, "HEAD", target, b"", TOKEN_HEADER, (b"last-event-id", last))
    assert answer.status in (200, 400)


@SHARED
@given(
    signature_input=headers_near(SIGNED["Signature-Input"]),
    signature=headers_near(SIGNED["Signature"]),
    digest=headers_near(SIGNED["Content-Digest"]),
)
def test_changed_signatures_are_refused(doors: Doors, signature_input: bytes, signature: bytes, digest: bytes) -> None:
    """Whatever stands in the three headers, it is no credential."""
    answer = ask(
        doors,
        "GET",
        b"/v1/liquidity",
        b"",
        (b"signature-input", signature_input),
        (b"signature", signature),
        (b"content-digest", digest),
    )
    assert 400 <= answer.status < 500


def test_an_endless_address_is_refused(doors: Doors) -> None:
    """Also with headers of the right form and time: what is signed has two bytes for the length of an address."""
    headers = write_headers(SignedHeaders(b"\x02" * 32, bytes(64), bytes(16), sha256(b"").digest(), 1_700_000_000))
    extra = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    answer = ask(doors, "GET", b"/v1/channels?after=" + b"a" * 65_600, b"", *extra)

    assert answer.status == 400
    assert b"65535 bytes" in answer.body
