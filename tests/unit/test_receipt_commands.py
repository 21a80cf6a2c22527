"""Proofs from receipts by the SDK and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from domain.contract.receipt_proofs import (
    ANSWER_SIZE,
)
from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.units import Side
from tests.support.exports import exported
from tests.support.parties import open_pair
from tests.support.receipt_kit import OTHER, Kit, kept, stored
from tests.support.receipts import receipt_of
from tests.support.threads import tower_thread
from tests.support.towers import TOKEN, TOWER_KEY, Bench
from watchtower.channels.accept_state import accept_state
from watchtower.channels.receipts import reissue
from watchtower.cli import _main
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.errors import ReceiptForged


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Made once; nobody changes it."""
    return Kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def export_directory(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the whole log."""
    target = tmp_path_factory.mktemp("exports") / "whole"
    exported(kit.path, target)
    return target


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower over a log in memory."""
    return Bench(tmp_path)


@pytest.mark.asyncio
async def test_the_sdk_asks_the_tower_itself(tower: Bench, kit: Kit) -> None:
    """An honest answer agrees; a tower that signed too much convicts itself, and its answer is handed out."""
    pair = open_pair()
    pair.updates(1)
    name = tower.registered(pair)
    config = StateChannelConfig(network="regtest")
    async with StateChannelClient(
        config, url="http://tower", token=TOKEN, party=pair.b, transport=tower.transport()
    ) as client:
        receipt = (await client.synchronize(pair.channel_id)).receipt
        assert receipt is not None
        honest = await client.verify_proof(receipt)
        lie = TOWER_KEY.receipt(
            msgspec.structs.replace(LogReceipt.decode(bytes.fromhex(receipt)[:204]), position=4_000).encode()
        )
        caught = await client.verify_proof(lie.encode().hex())
        by_log = await client.verify_proof(kit.proof(), log=kit.path)

    assert ("CONSISTENT", name, 1, True) == (honest.verdict, honest.channel_id, honest.sequence, honest.signed_by_tower)
    assert ("MISBEHAVIOR", "missing") == (caught.verdict, caught.reason)
    assert caught.answer is not None
    assert 2 * (ANSWER_SIZE + 64) == len(caught.answer)
    assert "CONSISTENT" == by_log.verdict


@pytest.mark.asyncio
async def test_an_answer_that_the_tower_did_not_sign_proves_nothing(tower: Bench) -> None:
    """Whoever stands between must not be able to accuse a tower."""
    pair = open_pair()
    pair.updates(1)
    tower.registered(pair)
    receipt = receipt_of(pair.channel_id, 1, key=TOWER_KEY)
    tower.services = msgspec.structs.replace(
        tower.services,
        receipts=msgspec.structs.replace(
            tower.services.receipts, check=lambda _shown: {"body": "00" * ANSWER_SIZE, "signature": "00" * 64}
        ),
    )
    config = StateChannelConfig(network="regtest")
    async with StateChannelClient(config, url="http://tower", token=TOKEN, transport=tower.transport()) as client:
        with pytest.raises(ReceiptForged, match="proves nothing"):
            await client.verify_proof(receipt.encode().hex())


def run(*words: str) -> Result:
    """A command."""
    return CliRunner().invoke(_main, list(words), env={"STATE_CHANNEL_NETWORK": "regtest"})


@pytest.mark.parametrize(
    ("changes", "verdict", "code"),
    [
        ({}, "CONSISTENT", 0),
        ({"leaf": OTHER}, "MISBEHAVIOR", 40),
        ({"position": 5_000}, "MISBEHAVIOR", 41),
        ({"upload_sha256": OTHER}, "MISBEHAVIOR", 41),
        ({"log_id": b"\x01" * 16}, "CANNOT_TELL", 80),
    ],
)
def test_the_command_judges_a_receipt_beside_a_log(
    kit: Kit, tmp_path: Path, changes: dict[str, object], verdict: str, code: int
) -> None:
    """The exit codes are those of an audit; the document and the text say the same."""
    path = stored(tmp_path, kit.proof(**changes), raw=bool(changes))

    document = run("proof", "verify", path, "--log", str(kit.path), "--json")
    text = run("proof", "verify", path, "--log", str(kit.path))

    assert (code, code) == (document.exit_code, text.exit_code)
    assert verdict == json.loads(document.stdout)["verdict"]
    assert verdict in text.output


def test_the_command_judges_a_receipt_beside_an_export(kit: Kit, export_directory: Path, tmp_path: Path) -> None:
    """A directory instead of a file; a receipt that nobody signed ends with 1."""
    good = run("proof", "verify", stored(tmp_path, kit.proof()), "--export", str(export_directory), "--json")
    forged = stored(tmp_path, kit.proof()[:-128] + "00" * 64)
    bad = run("proof", "verify", forged, "--export", str(export_directory), "--json")

    assert (0, "CONSISTENT") == (good.exit_code, json.loads(good.stdout)["verdict"])
    assert (1, "INVALID") == (bad.exit_code, json.loads(bad.stdout)["verdict"])


def test_the_command_asks_a_tower(tower: Bench, kit: Kit, tmp_path: Path) -> None:
    """Without evidence on the disk the tower is asked, and signs."""
    del kit
    pair = open_pair()
    pair.updates(1)
    tower.registered(pair)
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    accept_state(tower.context, stream, pair.update_request(Side.B, 1))
    proof = reissue(tower.context, stream, "1").encode().hex()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with tower_thread(tower.app) as url:
        done = run("proof", "verify", stored(tmp_path, proof), "--tower", url, "--token-file", str(token), "--json")

    assert 0 == done.exit_code, done.output
    assert json.loads(done.stdout)["signed_by_tower"] is True


@pytest.mark.parametrize(
    "words",
    [
        ("--log", "{log}", "--export", "{dir}"),
        ("--params", "{log}"),
        ("--published", "{log}"),
    ],
)
def test_options_that_do_not_belong_to_a_receipt(kit: Kit, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Exit code 2 and a sentence, before anything is opened."""
    filled = [word.format(log=kit.path, dir=kit.directory) for word in words]

    assert 2 == run("proof", "verify", stored(tmp_path, kit.proof()), *filled).exit_code


def test_a_file_that_only_begins_like_a_receipt(kit: Kit, tmp_path: Path) -> None:
    """Exit code 2 with what is wrong; a proof about a state takes no log."""
    cut = run("proof", "verify", stored(tmp_path, kit.proof()[:-2]), "--log", str(kit.path))
    proof = run("proof", "verify", stored(tmp_path, "504e5331" + "00" * 90), "--log", str(kit.path))

    assert (2, 2) == (cut.exit_code, proof.exit_code)
    assert "RCP2" in cut.output
    assert "are for receipts" in proof.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "code"),
    [({}, 0), ({"head": OTHER}, 40), ({"position": 5_000}, 41), ({"upload_sha256": OTHER}, 41)],
)
def test_the_audit_takes_receipts(kit: Kit, tmp_path: Path, changes: dict[str, object], code: int) -> None:
    """Every receipt of the clients has its upload in the log, or the report names the file and the line."""
    folder = kept(tmp_path, kit.receipts[1], kit.lie(**changes))

    done = run("audit", "verify", "--log", str(kit.path), "--receipts", folder, "--no-domain-rules", "--json")

    assert code == done.exit_code, done.output
    named = [finding for finding in json.loads(done.stdout)["findings"] if ".receipts:2: " in finding["sentence"]]
    assert len(named) == (code > 0)


@pytest.mark.slow
def test_the_audit_names_a_receipt_that_nobody_signed(kit: Kit, tmp_path: Path) -> None:
    """31, and 2 for a line that is no receipt at all."""
    bad = SignedReceipt(kit.receipts[1].body, bytes(64))
    folder = Path(kept(tmp_path, bad))
    words = ("audit", "verify", "--log", str(kit.path), "--no-domain-rules", "--receipts")

    assert 31 == run(*words, str(folder)).exit_code
    next(folder.iterdir()).write_text("no receipt")
    unread = run(*words, str(folder))

    assert 2 == unread.exit_code
    assert ".receipts:1" in unread.output
