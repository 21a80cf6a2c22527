"""Text forms: JSON of applications, towers and peers, headers, addresses, names in display order."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.canonical_json import decode_state_data, encode_state_data
from domain.chain import display, display_outpoint, from_display, parse_outpoint
from domain.errors import InvalidState, MalformedInput
from tests.fuzz.mutations import near, read_or_none
from watchtower.access import AccessFile, AccessFileBroken
from watchtower.client.errors import ConfigurationError, UnexpectedAnswer
from watchtower.client.tower.following import LONGEST_EVENT, EventReader
from watchtower.client.tower.session import read
from watchtower.client.transport.curve_key import PeerAddress, TransportKey
from watchtower.descriptors.text import parse
from watchtower.wire.events import EventBody
from watchtower.wire.hexes import Hex32, TxidHex, from_json, to_json
from watchtower.wire.signed_request import SignedHeaders, read_headers, write_headers

NUMBERS = [b"0", b"-0", b"1e5", b"1.0", b"9007199254740991", b"9007199254740992", b"NaN", b"-Infinity", b"1" * 5_000]
STATE_DATA = [
    encode_state_data({"board": "x.o" * 3, "turn": 3, "bets": [1, 2, {"a": None}], "é\u20ac": True}),
    *NUMBERS,
]
EVENT = to_json(
    EventBody(
        id=7,
        channel_id=Hex32(bytes(32)),
        version=3,
        recorded_at=1_700_000_000,
        height=120,
        kind="spend.seen",
        text="a commitment",
        txid=TxidHex(bytes(range(32))),
    )
)
STREAM = b": hello\r\nid: 7\nevent: spend\ndata: " + EVENT + b"\n\nretry: 5\nid: 8\ndata: " + EVENT + b"\n\n"
HEADERS = write_headers(SignedHeaders(bytes(32), bytes(64), bytes(16), bytes(32), 1_700_000_000))
SIGNED = HEADERS["Signature-Input"].encode()
ADDRESS = str(PeerAddress(TransportKey.from_seed(bytes(32)).public, "tower.example", 9735))
OUTPOINT = display_outpoint(bytes(range(32)) + bytes((1, 0, 0, 0)))
ACCESS = b'{"tokens":[{"name":"a","sha256":"00","scopes":["read"],"created_at":1}],"parties":[]}'


def as_text(raw: bytes) -> str:
    """What a reader of text sees of foreign bytes."""
    return raw.decode("utf-8", "replace")


@given(near(*STATE_DATA))
def test_state_data_is_canonical_or_refused(foreign: bytes) -> None:
    """No JSON is read that would be written in another way."""
    found = read_or_none(decode_state_data, foreign)
    assert found is None or foreign == encode_state_data(found)


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 66 + b"]" * 66])
def test_deeply_nested_state_data_is_refused(nested: bytes) -> None:
    """Neither the reader's stack nor the writer's is at a stranger's disposal."""
    with pytest.raises(MalformedInput):
        decode_state_data(nested)


@given(near(EVENT))
def test_bodies_are_read_or_refused(foreign: bytes) -> None:
    """A struct reads back to itself, and a reader of answers has its own refusal."""
    found = read_or_none(lambda each: from_json(each, EventBody), foreign)
    plain = read_or_none(lambda each: read(each, dict[str, object]), foreign, (UnexpectedAnswer,))

    assert found is None or found == from_json(to_json(found), EventBody)
    assert plain is None or isinstance(plain, dict)


@pytest.mark.parametrize("bomb", [b'{"x":' + b"[" * 100_000, b'{"x":' * 100_000, b'{"id":' + b"9" * 100_000 + b"}"])
def test_bombs_in_json_are_refused(bomb: bytes) -> None:
    """Depth and digits without end, in what a tower or a peer says."""
    with pytest.raises(MalformedInput):
        from_json(bomb, EventBody)
    with pytest.raises(UnexpectedAnswer):
        read(bomb, EventBody)


@given(near(STREAM), st.integers(1, 50))
def test_event_streams_are_read_or_refused(foreign: bytes, step: int) -> None:
    """Cut anywhere: the same events or the same refusal, and a position that is a number."""
    text = as_text(foreign)

    def read_by(size: int) -> tuple[int | None, list[EventBody]]:
        reader = EventReader()
        found = [event for at in range(0, len(text), size) for event in reader.read(text[at : at + size])]
        return reader.position, found

    whole = read_or_none(lambda _: read_by(max(len(text), 1)), None, (UnexpectedAnswer,))

    assert whole == read_or_none(lambda _: read_by(step), None, (UnexpectedAnswer,))
    assert whole is None or whole[0] is None or 0 <= whole[0] < 10**14


@pytest.mark.parametrize("line", ["data: " + "x" * 1_000 + "\n", "x" * 1_000])
def test_an_event_without_end_is_refused(line: str) -> None:
    """A stream may not fill the memory of its reader, by one line or by many."""
    reader = EventReader()

    with pytest.raises(UnexpectedAnswer, match="without end"):
        for _ in range(2 * LONGEST_EVENT // len(line)):
            reader.read(line)


@given(near(SIGNED), near(HEADERS["Signature"].encode()))
@example(SIGNED, HEADERS["Signature"].encode().replace(b":A", b":\xc1"))
@example(SIGNED.replace(b"=1700000000", b'="' + b"9" * 30 + b'"'), HEADERS["Signature"].encode())
def test_signature_headers_are_read_or_refused(signature_input: bytes, signature: bytes) -> None:
    """What is read is written and read again without a change."""
    texts = (HEADERS["Content-Digest"], signature_input.decode("latin-1"), signature.decode("latin-1"))

    found = read_or_none(lambda each: read_headers(*each), texts)

    again = None if found is None else write_headers(found)
    assert found is None or 0 <= found.created < 10**12
    assert again is None or found == read_headers(again["Content-Digest"], again["Signature-Input"], again["Signature"])


@given(near(ADDRESS.encode()))
def test_addresses_have_one_form(foreign: bytes) -> None:
    """A peer's address is refused, or stands in the text as it would be written."""
    text = as_text(foreign)
    found = read_or_none(PeerAddress.parse, text, (ConfigurationError,))
    assert found is None or found == PeerAddress.parse(str(found))


@given(near(OUTPOINT.encode()))
@example(b"ab" * 32 + b":" + b"9" * 5_000)
@example(OUTPOINT.encode().replace(b":", b":0"))
def test_names_on_the_chain_are_read_or_refused(foreign: bytes) -> None:
    """Outpoints and hashes as bitcoind shows them."""
    text = as_text(foreign)
    outpoint, digest = read_or_none(parse_outpoint, text), read_or_none(from_display, text[:64])
    assert outpoint is None or outpoint == parse_outpoint(display_outpoint(outpoint))
    assert digest is None or display(digest) == text[:64].lower()


@given(near(b"wsh(and_v(v:pk(" + b"02" * 33 + b"),or_d(multi(2,A,B),after(5))))", b"tr(K,{pk(A),{pk(B),pk(C)}})"))
@example(b"wsh(" + b"v" * 5_000 + b":0)")
@example(b"(" * 50_000)
def test_descriptor_texts_are_taken_apart_or_refused(foreign: bytes) -> None:
    """The reader that words a refusal must not itself fail."""
    found = read_or_none(parse, as_text(foreign), (InvalidState,))
    assert found is None or found.name in {"wpkh", "wsh", "tr"}


@given(near(ACCESS))
def test_access_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, foreign: bytes) -> None:
    """A damaged table lets nobody in and says so."""
    path = tmp_path_factory.getbasetemp() / "fuzzed-access.json"
    path.write_bytes(foreign)

    found = read_or_none(lambda each: AccessFile(each).table(), path, (AccessFileBroken,))

    assert found is None or found == msgspec.json.decode(msgspec.json.encode(found), type=type(found))


def test_a_deep_access_file_is_refused(tmp_path: Path) -> None:
    """Depth is damage like any other."""
    path = tmp_path / "access.json"
    path.write_bytes(b'{"other":' + b"[" * 100_000)
    with pytest.raises(AccessFileBroken):
        AccessFile(path).table()
