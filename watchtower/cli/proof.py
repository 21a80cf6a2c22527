"""`watchtower proof`: what a proof is worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from watchtower.cli.output import Context, Group, emit_document
from watchtower.cli.places import FILE, Place, read_hex, tower_options

EVIDENCE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
RECEIPT = b"RCP".hex()
"""What a receipt begins with."""


@click.group("proof", cls=Group)
def command() -> None:
    """Judge proofs: that a published state was revoked or is superseded, or that a tower lost what it signed for."""


@command.command("verify")
@click.argument("file", type=FILE)
@click.option("--params", type=click.Path(dir_okay=False), help="The channel's 516 bytes: judge here, without a tower.")
@click.option("--published", type=click.Path(dir_okay=False), help="With --params: the published transaction.")
@click.option("--log", type=EVIDENCE, help="With a receipt: the tower's log file as it stands now.")
@click.option("--export", type=FOLDER, help="With a receipt: an export of the tower's log.")
@tower_options
def verify(context: Context, place: Place, file: str, as_json: bool, **evidence: Any) -> None:
    """Say what the proof in FILE is worth: enforceable, evidence only, or invalid and why.

    FILE may hold a tower's receipt, too. It proves misbehavior if the tower's log does not hold what it signed: beside
    a log file, an export, or (without both) the answer that the tower signs now. docs/receipts.md says what counts.

    FILE and the other files hold bytes or hexadecimal text.

    \b
    Exit codes: 0 valid, or the log holds what the receipt says; 1 invalid; of a receipt 40 another event or history,
    41 the event or upload is missing, 80 cannot tell.

    \b
    Examples:
      watchtower proof verify ./proof
      watchtower proof verify ./proof --params ./params --published ./transaction
      watchtower proof verify ./receipt --export ./export
    """
    proof = read_hex(file)
    document = _receipt(place, proof, evidence) if proof.startswith(RECEIPT) else _proof(place, proof, evidence)
    emit_document(context, "proof", document, as_json=as_json)
    sys.exit(exit_code(document["verdict"], document["reason"]))


def exit_code(verdict: str, reason: str | None) -> int:
    """How the command ends; the codes of a receipt are those of `watchtower audit`."""
    if verdict == "MISBEHAVIOR":
        return 41 if reason in ("missing", "other_upload") else 40
    return {"INVALID": 1, "CANNOT_TELL": 80}.get(verdict, 0)


def _proof(place: Place, proof: str, evidence: dict[str, Any]) -> dict[str, Any]:
    from watchtower.party.questions import VerifyProof

    params, published = evidence["params"], evidence["published"]
    if evidence["log"] is not None or evidence["export"] is not None:
        raise click.UsageError("--log and --export are for receipts; this file holds a proof about a published state")
    if published is not None and params is None:
        raise click.UsageError("--published needs --params; a tower knows what was published")
    document: dict[str, Any] = (
        place.ask(VerifyProof(proof=proof)) if params is None else _offline(params, proof, published)
    )
    return document


def _receipt(place: Place, proof: str, evidence: dict[str, Any]) -> dict[str, Any]:
    from domain.errors import MalformedInput
    from watchtower.client.tower.receipt_proof import read_proof, verify_by_export, verify_by_file
    from watchtower.party.calls import plain
    from watchtower.party.questions import VerifyProof

    log, export = evidence["log"], evidence["export"]
    if evidence["params"] is not None or evidence["published"] is not None:
        raise click.UsageError("--params and --published are for proofs about a published state; this is a receipt")
    if log is not None and export is not None:
        raise click.UsageError("give --log or --export, not both")
    try:
        read_proof(proof)
    except MalformedInput as error:
        raise click.UsageError(str(error)) from None
    if log is None and export is None:
        asked: dict[str, Any] = place.ask(VerifyProof(proof=proof))
        return asked
    found: dict[str, Any] = plain(verify_by_file(proof, log) if export is None else verify_by_export(proof, export))
    return found


def _offline(params: str, proof: str, published: str | None) -> dict[str, Any]:
    from watchtower.client.disputes import verify_offline
    from watchtower.party.calls import plain

    shown = None if published is None else bytes.fromhex(read_hex(published))
    document: dict[str, Any] = plain(verify_offline(bytes.fromhex(read_hex(params)), proof, shown))
    return document
