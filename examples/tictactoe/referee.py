"""The referee: looks at a game only if one player left it, and then co-signs for the one who is right.

The evidence is the state that the chain has settled, which both players signed, and a move that would have come next.
A position of an earlier game, or from before the last moves, is signed as well: it counts only if it is the one whose
settlement holds the pot. The referee cannot take the pot: it needs a second key, and he has one of three.
"""

from __future__ import annotations

from domain.contract.params import ChannelParams
from domain.contract.state import state_data_hash, verify_header_signature
from domain.errors import Refusal
from domain.units import Side
from examples.tictactoe.rules import Game, IllegalMove
from watchtower.client.protocol.channel import CompleteState


class ClaimRefused(Refusal):
    """The evidence does not show that the claimant wins."""

    slug = "claim-refused"


def check_claim(
    params: ChannelParams, state: CompleteState, settlement: bytes, claimant: Side, move: int | None
) -> int:
    """The sequence number of the state whose pot is the claimant's; `ClaimRefused` if it is not.

    `params` are those of the channel for which the referee was named, not what a claimant shows; `settlement` is the
    txid (internal order) of the confirmed transaction that holds the pot. With a `move` the claimant is on turn and
    wins with it. Without one the opponent is on turn and was given the challenge period to hand the referee a move,
    which never came. Raises `InvalidSignature` for forged evidence.
    """
    header = state.content.read_header()
    for side in Side:
        verify_header_signature(params, header, side, state.signatures(side).state)
    if header.state_data_hash != state_data_hash(state.content.state_data):
        raise ClaimRefused("the position is not the one that was signed")
    if settlement not in (header.settle_txid_a, header.settle_txid_b):
        raise ClaimRefused("another state than this one was settled on the chain")
    game = Game.read(state.content.state_data)
    if game.over:
        raise ClaimRefused("no game is running in this state, and it has no pot")
    if move is None:
        if game.player is claimant:
            raise ClaimRefused("it is the claimant's own turn; a move is needed")
        return state.seq
    if game.player is not claimant or _after(game, move).winner is not claimant:
        raise ClaimRefused("this move does not win the game")
    return state.seq


def _after(game: Game, move: int) -> Game:
    try:
        return game.move(move)
    except IllegalMove as error:
        raise ClaimRefused(f"the move is against the rules: {error}") from None
