"""`watchtower info`: what a client needs to know of this tower."""

from __future__ import annotations

from typing import Any

import click

from watchtower.cli.output import Context, config_option, emit_document, emit_json, pass_context


@click.command("info")
@click.option("--address", help="host:port that clients shall use. Default: api.public_address, else api.listen.")
@click.option("--qr", is_flag=True, help="Draw the address with the key as a QR code, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, address: str | None, qr: bool, as_json: bool) -> None:
    """Show the tower's key and address, and what it takes: limits, fees, registration.

    Reads settings and key; no running tower is needed.

    \b
    Examples:
      watchtower info
      watchtower info --qr
      watchtower info --address abcdefgh.onion:9815 --json
    """
    document = describe(context, address)
    if as_json:
        emit_json(document)
        return
    emit_document(context, "tower", document, as_json=False)
    if qr:
        _draw(document["uri"])


def describe(context: Context, address: str | None) -> dict[str, Any]:
    """The document of `--json`; amounts in satoshi, periods in blocks."""
    import watchtower
    from watchtower.receipts.tower_key import load_tower_key

    settings = context.load().settings
    tower_id = load_tower_key(settings).tower_id.hex()
    where = address or settings.api.public_address or settings.api.listen
    return {
        "uri": f"{tower_id}@{where}",
        "tower_id": tower_id,
        "address": where,
        "network": settings.network,
        "version": watchtower.__version__,
        "profile": 0 if settings.taproot_enabled else 1,
        "registration": settings.policy.registration,
        "funding_threshold": settings.funding_threshold,
        "max_value": settings.max_value,
        "min_challenge_period": settings.min_challenge_period,
        "max_channels": settings.policy.max_channels,
        "max_total_capacity": settings.policy.max_total_capacity,
        "max_conditions": settings.policy.max_conditions,
        "max_body_bytes": settings.api.max_body_bytes,
        "max_penalty_fee_ratio": settings.fees.max_ratio,
    }


def _draw(text: str) -> None:
    import sys

    import segno

    segno.make(text, error="m", micro=False).terminal(out=sys.stdout, compact=True)
