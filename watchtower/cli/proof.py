"""`watchtower proof`: what a proof is worth."""

from __future__ import annotations

import sys
from typing import Any

import click

from watchtower.cli.output import Context, Group, emit_document
from watchtower.cli.places import FILE, Place, read_hex, tower_options


@click.group("proof", cls=Group)
def command() -> None:
    """Judge proofs that a published state was revoked or is superseded."""


@command.command("verify")
@click.argument("file", type=FILE)
@click.option("--params", type=click.Path(dir_okay=False), help="The channel's 516 bytes: judge here, without a tower.")
@click.option("--published", type=click.Path(dir_okay=False), help="With --params: the published transaction.")
@tower_options
def verify(context: Context, place: Place, file: str, params: str | None, published: str | None, as_json: bool) -> None:
    """Say what the proof in FILE is worth: enforceable, evidence only, or invalid and why.

    FILE and the other files hold bytes or hexadecimal text. Exit code 1 for an invalid proof.

    \b
    Examples:
      watchtower proof verify ./proof
      watchtower proof verify ./proof --params ./params --published ./transaction
    """
    from watchtower.party.questions import VerifyProof

    if published is not None and params is None:
        raise click.UsageError("--published needs --params; a tower knows what was published")
    proof = read_hex(file)
    document = place.ask(VerifyProof(proof=proof)) if params is None else _offline(params, proof, published)
    emit_document(context, "proof", document, as_json=as_json)
    if document["verdict"] == "INVALID":
        sys.exit(1)


def _offline(params: str, proof: str, published: str | None) -> dict[str, Any]:
    from watchtower.client.disputes import verify_offline
    from watchtower.party.calls import plain

    shown = None if published is None else bytes.fromhex(read_hex(published))
    document: dict[str, Any] = plain(verify_offline(bytes.fromhex(read_hex(params)), proof, shown))
    return document
