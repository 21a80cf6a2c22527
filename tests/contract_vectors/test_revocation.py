"""Shachain and revocation keys: BOLT-3 appendices D and E, and the two parties of the vectors."""

import random

import pytest

from domain.contract import keys
from domain.contract.revocation import (
    FIRST_INDEX,
    NO_SECRETS,
    Buckets,
    check_secret,
    commitment_point,
    commitment_secret,
    derive_secret,
    generate_from_seed,
    index_of,
    insert_secret,
    revocation_public,
    revocation_secret,
)
from domain.errors import InvalidSecret, MalformedInput
from domain.units import MAX_SEQUENCE, Side
from tests.contract_vectors.load import SECRETS, load, raw

GOOD_SEED, BAD_SEED = b"\xff" * 32, bytes(32)
SHACHAIN = load("shachain")
LATEST = "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc"
CORRECT = (
    LATEST,
    "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
    "2273e227a5b7449b6e70f1fb4652864038b1cbf9cd7c043a7d6456b7fc275ad8",
    "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
    "c65716add7aa98ba7acb236352d665cab17345fe45b55fb879ff80e6bd0c41dd",
    "969660042a28f32d9be17344e09374b379962d03db1574df5a8a5a47e19ce3f2",
    "a5a64476122ca0925fb344bdc1854c1c0a59fc614298e50a33e331980a220f32",
    "05cde6323d949933f7f7b78776bcc1ea6d9b31447732e3802e1f7ac44b650e17",
)


def _store(seed: bytes, states: int) -> Buckets:
    buckets = NO_SECRETS
    for sequence in range(states):
        buckets = insert_secret(buckets, commitment_secret(seed, sequence), index_of(sequence))
    return buckets


def _insert_all(secrets: list[bytes]) -> Buckets:
    buckets = NO_SECRETS
    for place, secret in enumerate(secrets):
        buckets = insert_secret(buckets, secret, FIRST_INDEX - place)
    return buckets


@pytest.mark.parametrize("vector", SHACHAIN["generation"], ids=lambda vector: f"{vector['index']:x}")
def test_bolt3_generation(vector: dict[str, str]) -> None:
    """Secrets of the appendix are generated from their seeds."""
    assert raw(vector["secret"]) == generate_from_seed(raw(vector["seed"]), int(vector["index"]))


def test_bolt3_storage_accepts_the_correct_sequence() -> None:
    """The eight secrets of the correct sequence are stored and all can be derived again."""
    buckets = _insert_all([raw(secret) for secret in CORRECT])

    assert [raw(secret) for secret in CORRECT] == [derive_secret(buckets, FIRST_INDEX - i) for i in range(8)]


@pytest.mark.parametrize(
    ("wrong", "length"),
    [((0,), 2), ((0, 1), 4), ((2,), 4), ((0, 1, 2, 3), 8), ((4,), 6), ((4, 5), 8), ((6,), 8), ((7,), 8)],
    ids=[f"#{number}" for number in range(1, 9)],
)
def test_bolt3_storage_refuses_incorrect_sequences(wrong: tuple[int, ...], length: int) -> None:
    """Each incorrect sequence of the appendix fails at its last secret and not before."""
    secrets = [generate_from_seed(BAD_SEED if i in wrong else GOOD_SEED, FIRST_INDEX - i) for i in range(length)]
    accepted = _insert_all(secrets[:-1])

    with pytest.raises(InvalidSecret):
        insert_secret(accepted, secrets[-1], FIRST_INDEX - length + 1)


def test_bolt3_revocation_keys() -> None:
    """Appendix E: public and secret revocation key."""
    vector = SHACHAIN["bolt3_revocation"]
    public = revocation_public(raw(vector["basepoint"]), raw(vector["per_commitment_point"]))
    secret = revocation_secret(raw(vector["basepoint_secret"]), raw(vector["per_commitment_secret"]))

    assert raw(vector["revocationpubkey"]) == public
    assert raw(vector["revocationprivkey"]) == secret
    assert raw(vector["revocationpubkey"]) == keys.public_key(secret)


@pytest.mark.parametrize("side", list(Side))
def test_secrets_and_points_of_the_parties(side: Side) -> None:
    """Secrets and points of both parties are those of the vectors."""
    party, seed = load("keys")[side.name], SECRETS[side].seed
    secrets = {number: commitment_secret(seed, int(number)).hex() for number in party["secrets"]}
    found = {number: commitment_point(seed, int(number)).hex() for number in party["points"]}

    assert party["secrets"] == secrets
    assert party["points"] == found


def test_buckets_after_300_states() -> None:
    """The store of A's secrets after 300 states has the nine buckets of the vectors."""
    expected = tuple((entry["index"], raw(entry["secret"])) for entry in SHACHAIN["store_after_300_states_of_A"])

    assert expected == _store(SECRETS[Side.A].seed, 300)


def test_d13_keyed_tower_recomputes_any_secret_from_its_buckets() -> None:
    """D13: 1,000 random states are derived from at most 49 buckets of a long channel."""
    seed, last = SECRETS[Side.A].seed, index_of(MAX_SEQUENCE)
    # The store of a channel that used every number: one secret per bucket, from the lowest index up.
    buckets = tuple((1 << b, generate_from_seed(seed, 1 << b)) for b in range(48))
    chosen = [random.Random(13).randrange(MAX_SEQUENCE + 1) for _ in range(1000)]

    assert last == buckets[0][0]
    assert [commitment_secret(seed, n) for n in chosen] == [derive_secret(buckets, index_of(n)) for n in chosen]


def test_unknown_secrets_are_not_invented() -> None:
    """A state above the stored ones has no secret."""
    assert derive_secret(_store(GOOD_SEED, 10), index_of(10)) is None


def test_replaying_a_secret_changes_nothing() -> None:
    """Inserting a known secret again, also an old one, leaves the buckets as they are."""
    buckets = _store(GOOD_SEED, 10)

    assert buckets == insert_secret(buckets, commitment_secret(GOOD_SEED, 3), index_of(3))


def test_another_secret_for_a_known_state_is_refused() -> None:
    """A second, different secret for a stored state is an alarm, not an update."""
    with pytest.raises(InvalidSecret, match="another secret"):
        insert_secret(_store(GOOD_SEED, 10), bytes(32), index_of(9))


def test_a_secret_must_fit_its_point() -> None:
    """F09: a secret whose point is not the announced one is refused; the right one passes."""
    check_secret(commitment_secret(GOOD_SEED, 4), commitment_point(GOOD_SEED, 4))

    with pytest.raises(InvalidSecret):
        check_secret(commitment_secret(GOOD_SEED, 4), commitment_point(GOOD_SEED, 5))
    with pytest.raises(InvalidSecret):
        check_secret(bytes(32), commitment_point(GOOD_SEED, 4))


def test_f13_the_last_state_number() -> None:
    """F13: 2^48-2 is the last number; 2^48-1 would reveal the seed and is refused."""
    assert 1 == index_of(2**48 - 2)

    with pytest.raises(MalformedInput):
        index_of(2**48 - 1)
    with pytest.raises(MalformedInput):
        index_of(-1)
