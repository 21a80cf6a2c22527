"""How a party signs an HTTP request, for the service and for the SDK.

The 32 bytes that are signed (BIP-340) are a tagged hash of

    len(method) ‖ method ‖ tower key (32) ‖ len(target) ‖ target ‖ SHA-256 of the body (32) ‖ created (8) ‖ nonce (16)

with lengths of 2 bytes, numbers big-endian, `target` as it stands in the request line (path, and `?` with the query if
there is one). The tower's key stands where RFC 9421 has the host: a request is good at one tower, through any proxy.

The headers have the forms of RFC 9421 and RFC 9530; of both only what is needed here is read:

    Content-Digest: sha-256=:BASE64:
    Signature-Input: sct=("@method" "@path" "@query" "content-digest");created=N;nonce="HEX";keyid="HEX";tag="…"
    Signature: sct=:BASE64:
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256

import msgspec

from domain.contract.hashes import tagged_hash
from domain.errors import MalformedInput

HASH_TAG = "state-channel/watchtower/request/v1"
SIGNATURE_TAG = "state-channel-v1"
LABEL = "sct"
COVERED = '("@method" "@path" "@query" "content-digest")'
NONCE_SIZE = 16
LONGEST_TARGET = 2**16 - 1
LONGEST = 1_000
"""Characters of one header; a good one has about 250."""

_INPUT = re.compile(r"([a-z*][a-z0-9_.*-]{0,30})=(\([^()]*\))((?:;[a-z]+=(?:\"[!#-\[\]-~ ]*\"|[0-9]{1,12}))*)")
_PARAMETER = re.compile(r";([a-z]+)=(?:\"([^\"]*)\"|([0-9]+))")
_TIME = re.compile(r"[0-9]{1,12}")
_WANTED = frozenset({"created", "nonce", "keyid", "tag"})


class SignedHeaders(msgspec.Struct, frozen=True):
    """What the three headers say: x-only key (32 bytes), signature (64), nonce (16), body digest (32), Unix time."""

    key: bytes
    signature: bytes
    nonce: bytes
    digest: bytes
    created: int


class UnsignedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a party puts its name to. `tower_key` is x-only (32 bytes), `body_sha256` 32, `nonce` 16 bytes."""

    method: str
    tower_key: bytes
    target: bytes
    body_sha256: bytes
    created: int
    nonce: bytes

    @property
    def hash(self) -> bytes:
        """The 32 bytes to sign; `MalformedInput` if the target is longer than two bytes can tell."""
        assert (len(self.tower_key), len(self.body_sha256), len(self.nonce)) == (32, 32, NONCE_SIZE)
        ends = _short(self.method.encode("ascii")) + self.tower_key + _short(self.target)
        return tagged_hash(HASH_TAG, ends + self.body_sha256 + self.created.to_bytes(8, "big") + self.nonce)


def write_headers(headers: SignedHeaders) -> dict[str, str]:
    """The three headers of a request."""
    parameters = (
        f';created={headers.created};nonce="{headers.nonce.hex()}";keyid="{headers.key.hex()}";tag="{SIGNATURE_TAG}"'
    )
    return {
        "Content-Digest": f"sha-256={_binary(headers.digest)}",
        "Signature-Input": f"{LABEL}={COVERED}{parameters}",
        "Signature": f"{LABEL}={_binary(headers.signature)}",
    }


def read_headers(content_digest: str, signature_input: str, signature: str) -> SignedHeaders:
    """Read the three headers; `MalformedInput` says which one is wrong and how."""
    for name, text in (("Content-Digest", content_digest), ("Signature-Input", signature_input)):
        if not text or len(text) > LONGEST:
            raise MalformedInput(f"a signed request needs the header {name}, of at most {LONGEST} characters")
    label, parameters = _read_input(signature_input)
    prefix = f"{label}="
    if not signature.startswith(prefix):
        raise MalformedInput(f"Signature and Signature-Input must have the same label, {label}")
    return SignedHeaders(
        key=_hexadecimal("keyid", parameters["keyid"], 32),
        signature=_bytes("Signature", signature.removeprefix(prefix), 64),
        nonce=_hexadecimal("nonce", parameters["nonce"], NONCE_SIZE),
        digest=_bytes("Content-Digest", content_digest.removeprefix("sha-256="), 32),
        created=int(parameters["created"]),
    )


def body_digest(body: bytes) -> bytes:
    """SHA-256 of the body, also of an empty one."""
    return sha256(body).digest()


def _read_input(text: str) -> tuple[str, dict[str, str]]:
    found = _INPUT.fullmatch(text)
    if found is None:
        raise MalformedInput("Signature-Input must have one signature with the parameters created, nonce, keyid, tag")
    label, covered, tail = found.groups()
    if covered != COVERED:
        raise MalformedInput(f"Signature-Input must cover exactly {COVERED}")
    pairs = [(name, quoted or number) for name, quoted, number in _PARAMETER.findall(tail)]
    parameters = dict(pairs)
    if len(pairs) != len(parameters) or set(parameters) != _WANTED or not _TIME.fullmatch(parameters["created"]):
        raise MalformedInput("Signature-Input must have created, nonce, keyid and tag, each once and nothing else")
    if parameters["tag"] != SIGNATURE_TAG:
        raise MalformedInput(f'the tag of the signature must be "{SIGNATURE_TAG}"')
    return label, parameters


def _hexadecimal(name: str, text: str, size: int) -> bytes:
    if re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text) is None:
        raise MalformedInput(f"{name} of Signature-Input must be {2 * size} lower-case hexadecimal digits")
    return bytes.fromhex(text)


def _bytes(name: str, text: str, size: int) -> bytes:
    """A byte sequence of RFC 8941: base64 between colons."""
    try:
        raw = base64.b64decode(text[1:-1], validate=True)
    except ValueError:  # also for letters outside of ASCII, which a header may carry
        raw = b""
    # Compared as text too: base64 of other bits behind the last byte would be a second form of the same header.
    if len(raw) != size or text != _binary(raw):
        raise MalformedInput(f"{name} must carry {size} bytes in base64 between colons")
    return raw


def _binary(raw: bytes) -> str:
    return f":{base64.b64encode(raw).decode()}:"


def _short(raw: bytes) -> bytes:
    if len(raw) > LONGEST_TARGET:
        raise MalformedInput(f"the address of a signed request has at most {LONGEST_TARGET} bytes, got {len(raw)}")
    return len(raw).to_bytes(2, "big") + raw
