"""Commands that ask a tower or a party: shapes of their documents, exit codes, and what they refuse to begin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from domain.transaction import Transaction
from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.proofs import secret_proof
from tests.support.threads import tower_thread
from tests.support.towers import TOKEN, TOWER_ID, Bench
from watchtower.cli import _main
from watchtower.client import ChannelInfo, ChannelState, FundingStatus
from watchtower.party.faults import CallFailed, Fault

pytestmark = pytest.mark.slow

REGTEST = {"STATE_CHANNEL_NETWORK": "regtest"}


class Desk:
    """A tower that watches a channel, and commands that ask it."""

    def __init__(self, url: str, pair: Pair, directory: Path) -> None:
        self.url, self.pair, self.directory = url, pair, directory
        self.name = pair.channel_id.hex()
        self.token = directory / "token"
        self.token.write_text(TOKEN + "\n")

    def run(self, *words: str, text: str | bytes = "") -> Result:
        """One command; errors are raised."""
        asked = ("--tower", self.url, "--token-file", str(self.token))
        return cli(*words, *asked, text=text)

    def document(self, *words: str, text: str | bytes = "") -> dict[str, Any]:
        """Its document."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json", text=text).stdout)
        return found

    def file(self, name: str, content: bytes) -> str:
        """A file beside the token."""
        (self.directory / name).write_bytes(content)
        return str(self.directory / name)


def cli(*words: str, text: str | bytes = "") -> Result:
    """Run a command in this process, with a clean environment."""
    return CliRunner().invoke(_main, words, env=REGTEST, input=text, catch_exceptions=False)


def fields(form: type[msgspec.Struct]) -> set[str]:
    """The names that a result has in JSON."""
    return {field.encode_name for field in msgspec.structs.fields(form)}


def fault_of(*words: str) -> Fault:
    """How a command fails."""
    with pytest.raises(CallFailed) as caught:
        cli(*words)
    return caught.value.fault


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """B's tower with states 0 and 1."""
    directory = tmp_path_factory.mktemp("desk")
    bench, pair = Bench(directory), open_pair()
    name = bench.registered(pair)
    pair.update((480_000, 520_000))
    bench.services.accept_state(name, pair.update_request(Side.B, 1))
    bench.catch_up()
    with tower_thread(bench.app) as url:
        yield Desk(url, pair, directory)


@pytest.fixture
def proof(desk: Desk) -> bytes:
    """A's state 0 was revoked; it names a transaction that nobody published."""
    return secret_proof(desk.pair, 0)


# ── questions to a tower ─────────────────────────────────────────────────────────────────────────────────


def test_the_newest_state_is_shown(desk: Desk) -> None:
    """All fields of the SDK's result under their names."""
    state = desk.document("channel", "state", desk.name[:8])

    assert (desk.name, 1, [480_000, 520_000]) == (state["channel_id"], state["sequence"], state["balances"])
    assert {"A", "B"} == set(state["signatures"])
    assert fields(ChannelState) == set(state)


def test_the_funding_is_shown(desk: Desk) -> None:
    """Status, depth and place."""
    funding = desk.document("channel", "funding", desk.name)
    assert ("CONFIRMED", True) == (funding["status"], funding["confirmed"])
    assert fields(FundingStatus) == set(funding)


def test_a_channel_is_shown_with_its_liquidity(desk: Desk) -> None:
    """The extended form of the SDK's `ChannelInfo`."""
    info = desk.document("channel", "info", desk.name)
    assert ("ACTIVE", 1_000_000, "B") == (info["status"], info["capacity"], info["own_side"])
    assert info["liquidity"]["usable"]
    assert fields(ChannelInfo) == set(info)


def test_events_are_told_line_by_line(desk: Desk) -> None:
    """Each a document of its own; without --json in words."""
    asked = ("channel", "follow", desk.name[:8], "--after", "0", "--count", "3")
    lines = [json.loads(line) for line in desk.run(*asked, "--json").stdout.splitlines()]
    told = desk.run(*asked).stdout.splitlines()

    assert [1, 2, 3] == [each["version"] for each in lines]
    assert [each["text"] for each in lines] == [line.split("  ", 4)[4] for line in told]


def test_tables_have_no_blanks_at_the_end_of_lines(desk: Desk) -> None:
    """Fields in one column, values in the next, inner lists in tables of their own."""
    shown = desk.run("channel", "state", desk.name).stdout
    lines = shown.splitlines()

    assert ["field", "value"] == lines[0].split()
    assert ["balances", "480000,", "520000"] == next(line.split() for line in lines if line.startswith("balances "))
    assert [] == [line for line in lines if line != line.rstrip()]


def test_an_enforceable_proof_is_told(desk: Desk, proof: bytes) -> None:
    """From a file with bytes, a file with digits, and standard input."""
    told = [
        desk.document("proof", "verify", desk.file("proof", proof)),
        desk.document("proof", "verify", desk.file("digits", proof.hex().encode() + b"\n")),
        desk.document("proof", "verify", "-", text=proof),
    ]
    assert [("VALID_ENFORCEABLE", 0, "A")] * 3 == [
        (each["verdict"], each["accused_sequence"], each["accused_party"]) for each in told
    ]


def test_a_proof_is_judged_without_a_tower(desk: Desk, proof: bytes) -> None:
    """The channel's constants are enough for a secret."""
    params = desk.file("params", desk.pair.params.encode())
    done = cli("proof", "verify", desk.file("proof", proof), "--params", params, "--json")
    assert (0, "VALID_ENFORCEABLE") == (done.exit_code, json.loads(done.stdout)["verdict"])


def test_an_invalid_proof_ends_with_1(desk: Desk, proof: bytes) -> None:
    """The document says why."""
    done = desk.run("proof", "verify", desk.file("changed", proof[:-1] + bytes([proof[-1] ^ 1])), "--json")
    assert (1, "INVALID") == (done.exit_code, json.loads(done.stdout)["verdict"])


def test_a_transaction_is_checked(desk: Desk) -> None:
    """A complete commitment from a file holds; half of its signatures does not."""
    raw = desk.pair.a.sign_commitment(desk.pair.channel_id, 1)
    good = desk.document("tx", "validate", desk.file("commitment", raw), "--channel", desk.name[:8])
    bare = Transaction.parse(raw).serialize(witness=False)
    bad = desk.run("tx", "validate", desk.file("bare", bare.hex().encode()), "--json")

    assert ("commitment", True, "A", 1) == (good["kind"], good["valid"], good["party"], good["sequence"])
    assert (1, False) == (bad.exit_code, json.loads(bad.stdout)["valid"])


def test_a_challenge_about_nothing_published_is_refused(desk: Desk, proof: bytes) -> None:
    """The tower's own reason, exit code 1."""
    asked = ("--tower", desk.url, "--token-file", str(desk.token))
    path = desk.file("proof", proof)
    fault = fault_of("channel", "challenge", desk.name, "--sequence", "0", "--proof", path, *asked)
    assert ("challenge-refused", 1) == (fault.slug, fault.exit_code)


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────


def test_a_tower_that_is_away_ends_with_4(desk: Desk) -> None:
    """Nobody listens on port 1."""
    fault = fault_of("channel", "state", "3f9a", "--tower", "http://127.0.0.1:1", "--token-file", str(desk.token))
    assert ("tower-unreachable", 4) == (fault.slug, fault.exit_code)


def test_a_token_that_cannot_be_read_ends_with_2(tmp_path: Path) -> None:
    """The file is named."""
    missing = str(tmp_path / "missing")
    fault = fault_of("channel", "state", "3f9a", "--tower", "http://127.0.0.1:1", "--token-file", missing)
    assert ("configuration-error", 2, True) == (fault.slug, fault.exit_code, missing in fault.text)


def test_an_unknown_channel_ends_with_1(desk: Desk) -> None:
    """The tower's slug."""
    asked = ("--tower", desk.url, "--token-file", str(desk.token))
    fault = fault_of("channel", "funding", "ff" * 32, *asked)
    assert ("unknown-channel", 1) == (fault.slug, fault.exit_code)


def test_a_wrong_token_ends_with_1(desk: Desk) -> None:
    """Refused, and the token is not repeated."""
    wrong = desk.file("wrong", b"wt_wrong")
    fault = fault_of("channel", "state", desk.name, "--tower", desk.url, "--token-file", wrong)
    assert ("unauthorized", 1, False) == (fault.slug, fault.exit_code, "wt_wrong" in fault.text)


LONG, LEG = f"ab,period={'9' * 5_000}", f"ab,{'9' * 5_000},+9"
USAGE = {
    "no party": ("channel", "update", "3f9a", "--balances", "1,2"),
    "balances": ("channel", "update", "3f9a", "--balances", "12"),
    "no proof": ("channel", "challenge", "3f9a", "--sequence", "1"),
    "two proofs": ("channel", "challenge", "3f9a", "--sequence", "1", "--proof", "x", "--txid", "y"),
    "closing unasked": ("channel", "close", "3f9a", "--home", "."),
    "two ways to close": ("channel", "close", "3f9a", "--home", ".", "--unilateral", "--fee", "5", "--yes"),
    "sequence": ("channel", "close", "3f9a", "--home", ".", "--sequence", "5", "--yes"),
    "neither file nor txid": ("tx", "validate", "nothing"),
    "no file": ("proof", "verify", "/does/not/exist"),
    "odd digits": ("proof", "verify", "-"),
    "published alone": ("proof", "verify", "-", "--published", "x"),
    "home and tower": ("channel", "state", "3f9a", "--home", ".", "--tower", "http://127.0.0.1:1"),
    "no invoice": ("channel", "pay", "3f9a", "--home", ".", "--amount", "5"),
    "hash": ("channel", "pay", "3f9a", "--home", ".", "--hash", "12", "--amount", "5"),
    "hop": ("channel", "pay", "3f9a", "--home", ".", "--hash", "00" * 32, "--amount", "5", "--hop", "ab,fee=much"),
    "digits of balances": ("channel", "update", "3f9a", "--home", ".", "--balances", f"{'9' * 5_000},1"),
    "digits of a hop": ("channel", "pay", "3f9a", "--home", ".", "--hash", "00" * 32, "--amount", "5", "--hop", LONG),
    "digits of an expiry": ("channel", "pay", "3f9a", "--home", ".", "--hash", "00" * 32, "--expiry", "9" * 5_000),
    "digits of a leg": ("channel", "swap", "--home", ".", "--give", LEG, "--take", "ab,5,+9", "--hash", "00" * 32),
    "leg": ("channel", "swap", "--home", ".", "--give", "ab,5", "--take", "ab,5,+9", "--hash", "00" * 32),
    "no home": ("party", "run"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_ends_with_2(case: str) -> None:
    """Nothing is opened, nobody is asked."""
    done = cli(*USAGE[case], text="abc")
    assert (2, "") == (done.exit_code, done.stdout)


# ── a party's directory ──────────────────────────────────────────────────────────────────────────────────


def made(directory: Path, url: str, token: Path, *options: str) -> dict[str, Any]:
    """A new party."""
    words = ("party", "init", "--home", str(directory), "--network", "regtest", "--cost", "16", "--tower", url)
    done = cli(*words, "--token-file", str(token), *options, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_new_party_tells_its_key_and_tower(desk: Desk, tmp_path: Path) -> None:
    """`init` and `info` agree; all files are the owner's alone, and the output holds no secret."""
    home = tmp_path / "carol"
    told = made(home, desk.url, desk.token, "--tower-id", TOWER_ID.hex(), "--peer", "ab" * 32)
    info = json.loads(cli("party", "info", "--home", str(home), "--json").stdout)
    passphrase = (home / "keystore.passphrase").read_text().strip()

    assert (told["key"], "regtest", []) == (info["key"], info["network"], info["channels"])
    assert {"url": desk.url, "id": TOWER_ID.hex(), "watching": True} == info["tower"]
    assert {0o600} == {path.stat().st_mode & 0o777 for path in home.iterdir()}
    assert passphrase not in json.dumps([told, info])


def test_a_party_shows_and_writes_its_receipts(desk: Desk, tmp_path: Path) -> None:
    """A new one has none; what cannot be written is a usage error."""
    made(tmp_path / "carol", desk.url, desk.token)
    home = ("--home", str(tmp_path / "carol"))
    (tmp_path / "taken").write_text("")

    shown = json.loads(cli("party", "receipts", *home, "--json").stdout)
    written = json.loads(cli("party", "receipts", *home, "--out", str(tmp_path / "out"), "--json").stdout)

    assert ({"receipts": []}, {"files": 0, "receipts": 0}) == (shown, written)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert 2 == cli("party", "receipts", *home, "--out", str(tmp_path / "taken" / "x")).exit_code


def test_a_party_is_shown_without_its_tower(tmp_path: Path) -> None:
    """Its key and channels are its own; other calls end with 4."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    told = made(tmp_path / "carol", "http://127.0.0.1:1", token)
    home = ("--home", str(tmp_path / "carol"))

    info = json.loads(cli("party", "info", *home, "--json").stdout)
    listed = json.loads(cli("channel", "payments", *home, "--json").stdout)

    assert (told["key"], None, []) == (info["key"], info["tower"]["watching"], listed["payments"])
    assert 4 == fault_of("channel", "update", "3f9a", "--balances", "1,2", *home).exit_code


def test_a_party_is_never_overwritten(desk: Desk, tmp_path: Path) -> None:
    """The second `init` names the directory."""
    made(tmp_path / "carol", desk.url, desk.token)
    before = {path: path.read_bytes() for path in (tmp_path / "carol").iterdir()}

    fault = fault_of("party", "init", "--home", str(tmp_path / "carol"), "--network", "regtest")

    assert ("configuration-error", 2) == (fault.slug, fault.exit_code)
    assert before == {path: path.read_bytes() for path in (tmp_path / "carol").iterdir()}


def test_a_passphrase_comes_through_standard_input(desk: Desk, tmp_path: Path) -> None:
    """Then it is in no file, and every command asks for it."""
    home = tmp_path / "carol"
    words = ("party", "init", "--home", str(home), "--network", "regtest", "--cost", "16", "--passphrase-file", "-")
    cli(*words, "--tower", desk.url, "--token-file", str(desk.token), text="of my own\n")
    shown = cli("party", "info", "--home", str(home), "--passphrase-file", "-", "--json", text="of my own\n")

    assert not (home / "keystore.passphrase").exists()
    assert "regtest" == json.loads(shown.stdout)["network"]


@pytest.mark.parametrize("given", ["", "a7" * 31, "a7" * 33, "x7" * 32, "00" * 32])
def test_an_id_of_no_application_is_refused(tmp_path: Path, given: str) -> None:
    """Before a party is looked for."""
    words = ("channel", "create", "--home", str(tmp_path), "--peer", "ab" * 32, "--balances", "1,2", "--app-id", given)
    result = cli(*words)
    assert (2, True) == (result.exit_code, "64 hexadecimal digits, not all zero" in result.stderr)


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        (("channel", "update", "3f9a", "--balances", "1,2"), "unknown-channel"),
        (("channel", "close", "3f9a", "--yes"), "unknown-channel"),
        (("channel", "pay", "3f9a", "--hash", "00" * 32, "--amount", "5"), "unknown-channel"),
        (("channel", "create", "--peer", "nobody", "--balances", "1,2"), "configuration-error"),
        (("channel", "create", "--peer", "ab" * 32, "--balances", "1,2", "--no-taproot"), "invalid-params"),
        (("htlc", "add", "3f9a", "--amount", "5", "--hash", "00", "--expiry", "9"), "unknown-channel"),
    ],
)
def test_what_a_party_refuses(desk: Desk, tmp_path: Path, words: tuple[str, ...], slug: str) -> None:
    """Typed refusals with the words of the SDK."""
    made(tmp_path / "carol", desk.url, desk.token)
    assert slug == fault_of(*words, "--home", str(tmp_path / "carol")).slug


def test_a_party_cannot_be_made_inside_a_file(tmp_path: Path) -> None:
    """The reason of the system, and a way out."""
    (tmp_path / "file").touch()
    fault = fault_of("party", "init", "--home", str(tmp_path / "file" / "carol"), "--network", "regtest")
    assert ("cannot-make", True) == (fault.slug, fault.text.endswith("Not a directory; choose another --home"))


def test_a_directory_that_is_no_party_is_told(tmp_path: Path) -> None:
    """With the command that makes one."""
    fault = fault_of("party", "info", "--home", str(tmp_path))
    assert (2, True) == (fault.exit_code, "watchtower party init" in fault.text)


def test_a_restored_party_has_its_settings_and_peers(desk: Desk, tmp_path: Path) -> None:
    """Everything but the passphrase: it runs again as it did."""
    home, back = tmp_path / "carol", tmp_path / "back"
    told = made(home, desk.url, desk.token, "--peer", "ab" * 32)
    cli("keys", "backup", str(tmp_path / "backup"), "--home", str(home))
    passphrase = str(home / "keystore.passphrase")
    cli("keys", "restore", str(tmp_path / "backup"), str(back), "--passphrase-file", passphrase)

    info = json.loads(cli("party", "info", "--home", str(back), "--passphrase-file", passphrase, "--json").stdout)

    assert (told["key"], desk.url) == (info["key"], info["tower"]["url"])
    assert "ab" * 32 + "\n" == (back / "peers").read_text()
