"""The commands of `watchtower channel` with which a party moves its channels."""

from __future__ import annotations

import click

from watchtower.cli.output import Context, emit_document
from watchtower.cli.places import (
    FILE,
    AppId,
    Balances,
    Place,
    confirm,
    party_options,
    read_data,
    read_hex,
    tower_options,
)

BALANCES = click.option("--balances", type=Balances(), metavar="A,B", help="Satoshi of A and of B.")
BALANCES_NEEDED = click.option(
    "--balances", type=Balances(), metavar="A,B", required=True, help="Satoshi of A (who opened) and of B."
)
STATE_DATA = click.option("--state-data", metavar="TEXT|@FILE", help="The application's data. Default: kept as it is.")
SEQUENCE = click.option("--sequence", type=click.IntRange(0), help="Number of the state. Default: the next one.")
YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("create")
@click.option("--peer", required=True, metavar="KEY@host:port", help="The other party: its key and where it listens.")
@BALANCES_NEEDED
@click.option("--challenge-period", type=click.IntRange(1, 65_535), help="Blocks. Default: that of the settings.")
@click.option("--taproot/--no-taproot", default=None, help="Refuse unless the party opens such channels.")
@click.option("--state-data", metavar="TEXT|@FILE", default="", help="The application's data of state 0.")
@click.option("--app-id", type=AppId(), metavar="HEX", help="The channel's application (32 bytes). Default: none.")
@click.option("--node", metavar="URL", help="RPC address of the node that has the wallet. Default: as in party.toml.")
@click.option("--wallet", metavar="NAME", help="The node's wallet that pays. Default: as in party.toml.")
@click.option("--cookie-file", type=click.Path(dir_okay=False), help="The node's cookie. Default: as in party.toml.")
@click.option("--feerate", type=click.FloatRange(min=0, min_open=True), help="sat/vB of the funding transaction.")
@click.option("--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait until updates are taken.")
@party_options
def create(
    context: Context,
    place: Place,
    peer: str,
    balances: tuple[int, int],
    challenge_period: int | None,
    taproot: bool | None,
    state_data: str,
    app_id: bytes | None,
    node: str | None,
    wallet: str | None,
    cookie_file: str | None,
    feerate: float | None,
    wait: float | None,
    as_json: bool,
) -> None:
    """Open a channel with a peer and fund it from a wallet of bitcoind.

    This party is A and pays the whole capacity. After a crash or silence the same command goes on where it stood.

    \b
    Example:
      watchtower channel create --home ./alice --peer KEY@127.0.0.1:9736 --balances 50000000,50000000
    """
    from watchtower.party.calls import CreateChannel
    from watchtower.party.settings import WalletPlace
    from watchtower.wire.hexes import Hex, Hex32

    chosen = WalletPlace(node=node or "", name=wallet or "", cookie_file=cookie_file or "")
    call = CreateChannel(
        peer=peer,
        balances=balances,
        challenge_period=challenge_period,
        taproot=taproot,
        state_data=Hex(read_data(state_data)),
        app_id=None if app_id is None else Hex32(app_id),
        feerate=feerate,
        wallet=chosen,
        wait_seconds=wait,
    )
    created = place.ask_party(call)
    if not as_json:  # nothing can be spent yet, and `channel info` tells the costs of a close when they matter
        created["info"].pop("liquidity", None)
    emit_document(context, "channel", created, as_json=as_json)


@click.command("update")
@click.argument("channel_id")
@BALANCES_NEEDED
@STATE_DATA
@SEQUENCE
@party_options
def update(
    context: Context,
    place: Place,
    channel_id: str,
    balances: tuple[int, int],
    state_data: str | None,
    sequence: int | None,
    as_json: bool,
) -> None:
    """Make the next state with the peer; it is final when the command ends.

    With --sequence the command may be repeated: a state that exists is not made again.

    \b
    Example:
      watchtower channel update 3f9a --home ./alice --balances 49000000,51000000 --state-data payment_1
    """
    from watchtower.party.calls import UpdateChannel
    from watchtower.wire.hexes import Hex

    data = None if state_data is None else Hex(read_data(state_data))
    call = UpdateChannel(channel=channel_id, balances=balances, state_data=data, sequence=sequence)
    emit_document(context, "update", place.ask_party(call), as_json=as_json)


@click.command("approve")
@click.argument("channel_id")
@BALANCES_NEEDED
@STATE_DATA
@SEQUENCE
@click.option("--closing", is_flag=True, help="Agree to a cooperative close with these balances instead.")
@party_options
def approve(
    context: Context,
    place: Place,
    channel_id: str,
    balances: tuple[int, int],
    state_data: str | None,
    sequence: int | None,
    closing: bool,
    as_json: bool,
) -> None:
    """Agree beforehand to a state by which this side loses, or to a close; the peer then makes it.

    A running party keeps it until it ends; without one there is nobody to remember it.

    \b
    Example:
      watchtower channel approve 3f9a --home ./bob --balances 60000000,40000000
    """
    from watchtower.party.calls import ApproveUpdate
    from watchtower.wire.hexes import Hex

    data = None if state_data is None else Hex(read_data(state_data))
    call = ApproveUpdate(channel=channel_id, balances=balances, state_data=data, sequence=sequence, closing=closing)
    emit_document(context, "approval", place.ask_party(call), as_json=as_json)


@click.command("close")
@click.argument("channel_id")
@BALANCES
@click.option(
    "--fee", type=click.IntRange(1), help="Satoshi that this side pays. Default: the channel's fixed feerate."
)
@click.option("--unilateral", is_flag=True, help="Publish the own newest state, without the peer.")
@click.option("--sequence", type=click.IntRange(0), help="With --unilateral: which state. Default: the newest.")
@YES
@party_options
def close(
    context: Context,
    place: Place,
    channel_id: str,
    balances: tuple[int, int] | None,
    fee: int | None,
    unilateral: bool,
    sequence: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Close a channel with the peer, or with --unilateral alone.

    Together: one transaction pays the final balances, by default those of the newest state. Alone: the settlement
    follows after the challenge period. A closed channel cannot be opened again.

    \b
    Examples:
      watchtower channel close 3f9a --home ./alice --balances 40000000,60000000 --yes
      watchtower channel close 3f9a --home ./alice --unilateral --yes
    """
    from watchtower.party.calls import CloseChannel, PublishState

    if unilateral and (balances is not None or fee is not None):
        raise click.UsageError("--unilateral publishes a state as it was signed; leave --balances and --fee out")
    if sequence is not None and not unilateral:
        raise click.UsageError("--sequence chooses a state to publish; it needs --unilateral")
    confirm(f"Close channel {channel_id}?", yes=yes)
    together = CloseChannel(channel=channel_id, balances=balances, fee=fee)
    call = PublishState(channel=channel_id, sequence=sequence) if unilateral else together
    emit_document(context, "close", place.ask_party(call), as_json=as_json)


@click.command("abandon")
@click.argument("channel_id")
@YES
@party_options
def abandon(context: Context, place: Place, channel_id: str, yes: bool, as_json: bool) -> None:
    """Give up an opening that was never funded; its coins are free again.

    \b
    Example:
      watchtower channel abandon 3f9a --home ./alice --yes
    """
    from watchtower.party.calls import AbandonChannel

    confirm(f"Give up channel {channel_id}?", yes=yes)
    emit_document(context, "channel", place.ask_party(AbandonChannel(channel=channel_id)), as_json=as_json)


@click.command("challenge")
@click.argument("channel_id")
@click.option("--sequence", type=click.IntRange(0), required=True, help="Number of the state that was published.")
@click.option("--proof", "proof_file", type=FILE, help="File with the proof, in bytes or hexadecimal; - reads it.")
@click.option("--txid", help="Instead of --proof: the party makes one about this transaction from its own log.")
@tower_options
def challenge(
    context: Context,
    place: Place,
    channel_id: str,
    sequence: int,
    proof_file: str | None,
    txid: str | None,
    as_json: bool,
) -> None:
    """Show the tower a proof that a published state was revoked; an enforceable one brings the penalty.

    \b
    Examples:
      watchtower channel challenge 3f9a --sequence 3 --proof ./proof
      watchtower channel challenge 3f9a --sequence 3 --txid TXID --home ./bob
    """
    from watchtower.party.calls import ChallengeState

    if (proof_file is None) == (txid is None):
        raise click.UsageError("give either --proof FILE or --txid TXID")
    proof = None if proof_file is None else read_hex(proof_file)
    call = ChallengeState(channel=channel_id, sequence=sequence, proof=proof, txid=txid)
    document = place.ask(call) if txid is None else place.ask_party(call)
    emit_document(context, "challenge", document, as_json=as_json)


@click.command("respond")
@click.argument("channel_id")
@click.option("--counter-proof", "proof_file", type=FILE, required=True, help="File with it; - reads it.")
@tower_options
def respond(context: Context, place: Place, channel_id: str, proof_file: str, as_json: bool) -> None:
    """Answer the newest challenge with a counter-proof; no transaction follows.

    \b
    Example:
      watchtower channel respond 3f9a --counter-proof ./counter-proof
    """
    from watchtower.party.calls import RespondToChallenge

    call = RespondToChallenge(channel=channel_id, counter_proof=read_hex(proof_file))
    emit_document(context, "response", place.ask(call), as_json=as_json)


COMMANDS = (create, update, approve, close, abandon, challenge, respond)
