"""Key aggregation and MuSig2 sessions (BIP-327)."""

import pytest

from domain.contract import keys, musig, secp256k1
from domain.contract.musig import MusigSession
from domain.errors import InvalidSignature, MalformedInput
from tests.contract_vectors.load import load, raw

FIGURES = load("bip327")
SECRETS = (bytes(31) + b"\x05", bytes(31) + b"\x09")
PUBLICS = tuple(keys.public_key(secret) for secret in SECRETS)
ROOT = bytes(range(32))
MESSAGE = b"\x5a" * 32


def _sessions(message: bytes = MESSAGE, root: bytes = ROOT) -> tuple[MusigSession, MusigSession]:
    first = MusigSession(SECRETS[0], PUBLICS, b"\x01" * 32, root, message)
    second = MusigSession(SECRETS[1], PUBLICS[::-1], b"\x02" * 32, root, message)
    return first, second


def _sign(first: MusigSession, second: MusigSession) -> tuple[bytes, bytes]:
    nonces = (first.public_nonce, second.public_nonce)
    return first.partial_sign(nonces), second.partial_sign(nonces)


@pytest.mark.parametrize(("indexes", "expected"), FIGURES["key_agg"]["cases"])
def test_bip327_key_aggregation(indexes: list[int], expected: str) -> None:
    """Keys in a given order, also repeated ones, aggregate to the published key."""
    publics = [raw(FIGURES["key_agg"]["publics"][index]) for index in indexes]

    assert expected == musig._aggregate_point(musig._key_agg_cache(publics))[1:].hex()


def test_key_agg_sorts_its_keys() -> None:
    """The aggregate does not depend on the order of the arguments (KeySort)."""
    publics = [raw(public) for public in FIGURES["key_agg"]["publics"]]

    assert musig._aggregate_point(musig._key_agg_cache(sorted(publics))) == musig.key_agg(publics)
    assert musig.key_agg(publics) == musig.key_agg(publics[::-1])


@pytest.mark.parametrize(("name", "valid"), [("partial", 1), ("negated", 0), ("wrong_signer", 0)])
def test_bip327_partial_verification(name: str, valid: int) -> None:
    """Published partial signatures are judged as BIP-327 says."""
    case = FIGURES["partial"]
    cache = musig._key_agg_cache([raw(public) for public in case["publics"]])
    session = musig._nonce_session(cache, raw(case["message"]), [raw(nonce) for nonce in case["nonces"]])

    verdict = secp256k1.lib.secp256k1_musig_partial_sig_verify(
        secp256k1.CTX,
        musig._parse_partial(raw(case[name])),
        musig._parse_nonce(raw(case["nonces"][0])),
        secp256k1.parse_point(raw(case["publics"][0])),
        cache,
        session,
    )

    assert valid == verdict


def test_bip327_aggregation_of_partial_signatures() -> None:
    """Published partial signatures join to the published signature."""
    case = FIGURES["aggregate"]
    cache = musig._key_agg_cache([raw(public) for public in case["publics"]])
    session = musig._nonce_session(cache, raw(case["message"]), [raw(nonce) for nonce in case["nonces"]])

    assert case["signature"] == musig._join_partials(session, [raw(part) for part in case["partials"]]).hex()


def test_two_signers_make_one_signature_for_the_taproot_output() -> None:
    """Both partial signatures verify and join to a BIP-340 signature of the tweaked aggregate key."""
    first, second = _sessions()
    partials = _sign(first, second)
    internal = musig.key_agg(PUBLICS)[1:]
    output, _ = keys.tweak_xonly(internal, keys.taproot_tweak(internal, ROOT))

    assert first.verify_partial(PUBLICS[1], second.public_nonce, partials[1])
    assert second.verify_partial(PUBLICS[0], first.public_nonce, partials[0])
    assert keys.verify_schnorr(output, MESSAGE, first.aggregate(partials))
    assert first.aggregate(partials) == second.aggregate(partials[::-1])


def test_a_tampered_partial_signature_is_found() -> None:
    """A changed partial signature neither verifies nor joins."""
    first, second = _sessions()
    partials = _sign(first, second)
    forged = partials[1][:-1] + bytes((partials[1][-1] ^ 1,))

    assert not first.verify_partial(PUBLICS[1], second.public_nonce, forged)
    with pytest.raises(InvalidSignature):
        first.aggregate((partials[0], forged))


def test_a_partial_signature_for_another_message_is_found() -> None:
    """A partial signature over another message does not verify."""
    first, second = _sessions()
    other = MusigSession(SECRETS[1], PUBLICS, b"\x03" * 32, ROOT, b"\x11" * 32)
    _sign(first, second)
    foreign = other.partial_sign((first.public_nonce, other.public_nonce))

    assert not first.verify_partial(PUBLICS[1], second.public_nonce, foreign)


def test_a_session_signs_once() -> None:
    """A second signature with the same nonce would give away the key and is refused."""
    first, second = _sessions()
    _sign(first, second)

    with pytest.raises(MalformedInput, match="was used"):
        first.partial_sign((first.public_nonce, second.public_nonce))


def test_the_secret_nonce_is_erased_by_signing() -> None:
    """After the partial signature the memory of the nonce holds zeros."""
    first, second = _sessions()
    before = bytes(secp256k1.ffi.buffer(first._nonce))
    _sign(first, second)

    assert before != bytes(secp256k1.ffi.buffer(first._nonce))
    assert bytes(len(before)) == bytes(secp256k1.ffi.buffer(first._nonce))


def test_an_abandoned_session_cannot_sign() -> None:
    """Erasing an attempt ends it."""
    first, second = _sessions()
    first.erase()

    with pytest.raises(MalformedInput, match="was used"):
        first.partial_sign((first.public_nonce, second.public_nonce))
    assert not any(bytes(secp256k1.ffi.buffer(first._nonce)))


def test_fresh_randomness_gives_fresh_nonces() -> None:
    """Two sessions over the same message have different public nonces."""
    one = MusigSession(SECRETS[0], PUBLICS, b"\x01" * 32, ROOT, MESSAGE)
    two = MusigSession(SECRETS[0], PUBLICS, b"\x04" * 32, ROOT, MESSAGE)

    assert one.public_nonce != two.public_nonce


def test_bad_sessions_are_refused() -> None:
    """Foreign keys, zero randomness, missing nonces and nonces off the curve give typed errors."""
    first, second = _sessions()

    with pytest.raises(MalformedInput, match="not among"):
        MusigSession(bytes(31) + b"\x0d", PUBLICS, b"\x01" * 32, ROOT, MESSAGE)
    with pytest.raises(MalformedInput, match="zeros"):
        MusigSession(SECRETS[0], PUBLICS, bytes(32), ROOT, MESSAGE)
    with pytest.raises(MalformedInput, match="include"):
        first.partial_sign((second.public_nonce, second.public_nonce))
    with pytest.raises(MalformedInput, match="2 public nonces"):
        first.partial_sign((first.public_nonce,))
    with pytest.raises(MalformedInput, match="curve"):
        first.partial_sign((first.public_nonce, b"\xff" * 66))
    with pytest.raises(MalformedInput, match="sign first"):
        second.aggregate((bytes(32), bytes(32)))


def test_repr_shows_no_secret() -> None:
    """A session prints its stage only."""
    first, _ = _sessions()

    assert "<MusigSession open>" == repr(first)
