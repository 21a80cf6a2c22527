"""Secrets of a party in its own files, in errors raised on purpose, in reprs, and in the log of a fault."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from domain.contract.conditions import Condition
from domain.contract.derivation import ChannelSecrets, channel_keys, derive
from domain.contract.htlc import complete_htlc_success
from domain.contract.params import SEGWIT, TAPROOT
from domain.contract.penalty import build_penalty, sign_penalty
from domain.contract.revocation import commitment_secret, insert_secret
from domain.errors import DomainError
from domain.units import Side
from tests.contract_vectors.load import PARAMS
from tests.support.parties import Pair, htlc, made_up_funding, make_party, open_pair, preimage_of, seed_of, settings_of
from watchtower.client import Terms
from watchtower.client.party import exchange
from watchtower.client.party.home import create_home, export_seed, open_home
from watchtower.config.sections import Secret
from watchtower.keystore import FileKeystore, KeystoreConflict, WrongPassphrase
from watchtower.ports import WatchtowerError
from watchtower.telemetry.logging import configure
from watchtower.wire.hexes import SecretHex

PASSPHRASE = b"canary-passphrase-77ab"
CANARY = bytes.fromhex("c0ffee00" * 8)


def forms(secret: bytes) -> tuple[bytes, ...]:
    """Raw, hexadecimal, and as Python shows bytes."""
    return (secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode())


def found_in(secrets: dict[str, bytes], content: bytes) -> list[str]:
    """Names of the secrets that stand in the content."""
    return [name for name, secret in secrets.items() if any(form in content for form in forms(secret))]


def all_of(keys: ChannelSecrets) -> dict[str, bytes]:
    """The secrets of every role and the first per-commitment secrets."""
    roles = {name: getattr(keys, name) for name in keys.__struct_fields__}
    return roles | {f"own secret {number}": commitment_secret(keys.seed, number) for number in range(6)}


@pytest.fixture
def quiet() -> Iterator[None]:
    """The test's own logging comes back afterwards."""
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
def test_the_log_of_a_party_holds_none_of_its_secrets(tmp_path: Path, profile: int) -> None:
    """Database and write-ahead log of a party that opened a channel, added an HTLC and let it fulfil."""
    home, settings = tmp_path / "home", settings_of(profile)
    peer = make_party("bob", settings=settings)
    create_home(home, "regtest", PASSPHRASE, cost=2**4)
    seed = export_seed(home, PASSPHRASE)
    with open_home(home, PASSPHRASE, settings) as opened:

        def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
            return made_up_funding(spk, amount).txid, 0

        channel_id = exchange.open_channel(
            opened.party, peer, Terms(balances=(500_000, 500_000), profile=profile), fund
        )
        exchange.update(opened.party, peer, channel_id, (480_000, 500_000), (htlc(Side.A, 1, 20_000, 900_000),))
        exchange.update(opened.party, peer, channel_id, (480_000, 520_000))
        used = opened.party.channel(channel_id)
        files = {path.name: path.read_bytes() for path in home.iterdir()}
    files |= {f"closed {path.name}": path.read_bytes() for path in home.iterdir()}

    secrets = all_of(channel_keys(seed, 1, used.channel_index)) | {
        "seed": seed,
        "passphrase": PASSPHRASE,
        "preimage": preimage_of(1),
    }
    assert (profile, True) == (used.params.profile, "party.db-wal" in files)
    assert [] == [(name, found) for name, content in files.items() if (found := found_in(secrets, content))]


def _wrong_rev(pair: Pair) -> None:
    """A penalty with the secret of another key."""
    keys = pair.secrets(Side.B)
    tx = build_penalty(pair.params, bytes(32), 1000, b"\x00\x14" + bytes(20))
    sign_penalty(pair.params, tx, pair.params.keys_b.rev, keys.seed, bytes(32))


def _wrong_preimage(pair: Pair) -> None:
    """A claim with another preimage."""
    condition = Condition(0, 1, 900_000, 20_000, bytes(32))
    tx = build_penalty(PARAMS, bytes(32), 1000, b"\x00\x14" + bytes(20))
    complete_htlc_success(pair.params, condition, tx, bytes(64), preimage_of(1))


def _wrong_bucket(pair: Pair) -> None:
    """A secret that does not follow from the earlier ones."""
    index = 2**48 - 1
    buckets = insert_secret((), pair.secret(Side.A, 0), index)
    insert_secret(buckets, pair.secret(Side.B, 1), index - 1)


def _short_seed(pair: Pair) -> None:
    """A seed of a wrong length."""
    derive(pair.secrets(Side.B).seed[:15], (1,))


@pytest.mark.parametrize("fault", [_wrong_rev, _wrong_preimage, _wrong_bucket, _short_seed])
def test_errors_do_not_repeat_what_was_wrong(fault: Callable[[Pair], None]) -> None:
    """Text, repr and traceback of a refusal say what was wrong, not with which secret."""
    pair = open_pair()

    with pytest.raises(DomainError) as refused:
        fault(pair)

    secrets = all_of(pair.secrets(Side.B)) | all_of(pair.secrets(Side.A)) | {"preimage": preimage_of(1)}
    secrets["short"] = pair.secrets(Side.B).seed[:15]
    shown = (str(refused.value), repr(refused.value), *traceback.format_exception(refused.value))
    assert [] == found_in(secrets, "".join(shown).encode())


def test_errors_of_the_keystore_do_not_repeat_secrets(tmp_path: Path) -> None:
    """A conflict and a wrong passphrase."""
    store = FileKeystore.create(tmp_path / "keystore", PASSPHRASE, cost=2**4)
    store.put(bytes(32), CANARY)
    shown = []
    for error, fault in (
        (KeystoreConflict, lambda: store.put(bytes(32), PASSPHRASE)),
        (WrongPassphrase, lambda: FileKeystore.open_copy(tmp_path / "keystore", CANARY)),
    ):
        with pytest.raises(error) as refused:
            fault()
        shown += [str(refused.value), repr(refused.value), *traceback.format_exception(refused.value)]

    assert [] == found_in({"secret": CANARY, "passphrase": PASSPHRASE}, "".join(shown).encode())


def test_objects_do_not_show_their_secrets(tmp_path: Path) -> None:
    """What a debugger, a traceback with locals or a failed assertion would print of the objects that hold secrets."""
    store = FileKeystore.create(tmp_path / "keystore", PASSPHRASE, cost=2**4)
    store.put(bytes(32), CANARY)
    pair = open_pair()
    keys = pair.secrets(Side.B)
    held = (
        store,
        vars(store),
        Secret(CANARY.hex()),
        pair.b,
        vars(pair.b),
        keys,
        pair.registration(Side.B),
        pair.b._keys,
    )
    node = derive(seed_of("bob"), (1,))

    try:
        raise WatchtowerError("on purpose")
    except WatchtowerError as error:
        captured = traceback.TracebackException.from_exception(error, capture_locals=True)

    printed = "".join(captured.format())
    secrets = all_of(keys) | {"secret": CANARY, "node": node.secret, "chain code": node.chain_code}
    del secrets["own secret 0"]
    assert "held = " in printed
    assert [] == found_in(secrets, printed.encode()) + found_in(secrets, repr((held, node)).encode())


def test_a_secret_of_the_wire_is_shown_in_no_way() -> None:
    """`str` of bytes does not ask `repr`: both, and formatting, hide it."""
    secret = SecretHex(CANARY)

    assert ["<secret>"] * 4 == [f"{secret}", f"{secret!r}", str(secret), " ".join(map(str, [secret]))]


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_log_of_a_fault_shows_no_locals(form: str, quiet: None) -> None:
    """A fault with secrets in its frames is logged with its place and words only."""
    target = io.StringIO()
    configure("debug", form, stream=target)
    secret_in_frame = CANARY

    try:
        raise ValueError(f"bad value {secret_in_frame.hex()}")
    except ValueError as error:
        structlog.get_logger("test").error("task_ended", task="pass", reason="ValueError", exc_info=error)

    told = target.getvalue()
    assert "ValueError" in told
    assert "bad value [redacted:64]" in told
    assert [] == found_in({"secret": CANARY}, told.encode())
    assert "secret_in_frame=" not in told
