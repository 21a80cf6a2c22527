"""The rules of the example application, and two parties that play by them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.application import ApplicationRefused, ApplicationState, application_state
from domain.contract.conditions import Condition
from domain.units import Side
from examples.tictactoe.escrow import pot_of
from examples.tictactoe.referee import ClaimRefused, check_claim
from examples.tictactoe.rules import APP_ID, Game, IllegalMove, TicTacToe
from examples.tictactoe.table import BUY_IN, STAKE, game_consent
from tests.support.miniscripts import KEYS
from tests.support.parties import made_up_funding, make_party
from watchtower.client import Terms
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.channel import CompleteState
from watchtower.descriptors import resolve

ESCROW = f"wsh(sortedmulti(2,{','.join(KEYS[:3])}))"
OTHER_ESCROW = f"wsh(pk({KEYS[0]}))"
POT = pot_of(ESCROW, 2 * STAKE)
RULES = TicTacToe()


def state(game: Game, balances: tuple[int, int], *conditions: Condition, sequence: int = 5) -> ApplicationState:
    """A state of the channel with this position."""
    return ApplicationState(sequence, balances, conditions, game.encode())


def after(*squares: int) -> Game:
    """The position after these moves."""
    game = Game.at_rest(ESCROW).begin()
    for square in squares:
        game = game.move(square)
    return game


REST = (BUY_IN, BUY_IN)
PLAYING = (BUY_IN - STAKE, BUY_IN - STAKE)


def successor(before: ApplicationState, game: Game) -> ApplicationState:
    """The state that a fair player offers after a move."""
    if not game.over:
        return state(game, before.balances, *before.conditions)
    share_a, share_b = game.shares(2 * STAKE)
    return state(game, (before.balances[0] + share_a, before.balances[1] + share_b))


@given(st.lists(st.integers(0, 8), min_size=9, max_size=40))
def test_every_game_played_by_the_rules_is_accepted_to_its_end(choices: list[int]) -> None:
    """From rest to a finished game each state is accepted, and the money at the end is all there."""
    before = state(Game.at_rest(ESCROW), REST)
    now = state(Game.at_rest(ESCROW).begin(), PLAYING, POT)
    verdicts = [RULES.validate(None, before), RULES.validate(before, now)]
    for choice in choices:
        game = Game.read(now.state_data)
        if game.over:
            break
        following = successor(now, game.move(game.free[choice % len(game.free)]))
        verdicts.append(RULES.validate(now, following))
        now = following

    assert [None] * len(verdicts) == verdicts
    assert 2 * BUY_IN == sum(now.balances) + sum(condition.amount for condition in now.conditions)


def forged(game: Game, **changes: object) -> Game:
    """A position that no move leads to."""
    return msgspec.structs.replace(game, **changes)


FIRST = state(after(), PLAYING, POT)
LAST = state(after(0, 1, 4, 2), PLAYING, POT)
WON = after(0, 1, 4, 2, 8)

OFFENCES: dict[str, tuple[ApplicationState | None, ApplicationState, str]] = {
    "a turn without a mark": (LAST, state(forged(after(0, 1, 4, 2), turn="B"), PLAYING, POT), "one free square"),
    "out of turn": (FIRST, state(forged(after(), board="O........"), PLAYING, POT), "A is on turn"),
    "two marks": (FIRST, state(forged(after(), board="XX......."), PLAYING, POT), "one free square"),
    "a mark removed": (LAST, state(after(0, 1, 4), PLAYING, POT), "one free square"),
    "another escrow": (FIRST, state(forged(after(3), escrow=OTHER_ESCROW), PLAYING, POT), "everything else stays"),
    "money in the middle": (FIRST, state(after(3), (PLAYING[0] + 1, PLAYING[1] - 1), POT), "no money moves"),
    "the pot dropped": (FIRST, state(after(3), REST), "no money moves"),
    "payout to the loser": (LAST, state(WON, (PLAYING[0], PLAYING[1] + 2 * STAKE)), "600000 sat are A's"),
    "payout by halves": (LAST, state(WON, REST), "600000 sat are A's"),
    "pot kept after the end": (LAST, state(WON, PLAYING, POT), "paid out"),
    "not over with three in a row": (LAST, state(forged(WON, over=False), PLAYING, POT), "one free square"),
    "unequal stakes": (
        state(WON, REST),
        state(WON.begin(), (BUY_IN - 2 * STAKE, BUY_IN), POT),
        "half of the pot",
    ),
    "a pot that pays somebody": (
        state(WON, REST),
        state(WON.begin(), PLAYING, pot_of(OTHER_ESCROW, 2 * STAKE)),
        "pays the escrow",
    ),
    "no stakes": (state(WON, REST), state(WON.begin(), REST), "pays the escrow"),
    "a game that begins in the middle": (state(WON, REST), state(after(4), PLAYING, POT), "empty board"),
    "a channel with a game running": (None, state(after(), REST), "no game running"),
    "not JSON": (FIRST, ApplicationState(6, PLAYING, (POT,), b"\xff"), "no position"),
    "JSON of something else": (FIRST, ApplicationState(6, PLAYING, (POT,), b'{"board":1}'), "no position"),
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_whatever_breaks_the_rules_is_refused_with_its_reason(offence: str) -> None:
    """Illegal moves, wrong payouts, and every other way to take what is not one's own."""
    before, new, words = OFFENCES[offence]

    assert words in str(RULES.validate(before, new))


def test_moves_against_the_rules_cannot_be_made() -> None:
    """The position itself refuses a taken square, a move after the end and a game inside a game."""
    wrong: list[Callable[[], Game]] = [lambda: after(4, 4), lambda: WON.move(3), lambda: after(1).begin()]

    for move in wrong:
        with pytest.raises(IllegalMove):
            move()


# ── two parties ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def players() -> tuple[ChannelParty, ChannelParty]:
    """Two parties that play by the rules."""
    first, second = (
        make_party(name, applications=(TicTacToe(),), consent=game_consent, resolve=resolve) for name in ("ann", "ben")
    )
    return first, second


@pytest.fixture
def channel(players: tuple[ChannelParty, ChannelParty]) -> bytes:
    """Their channel, at rest."""

    def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
        made = made_up_funding(spk, amount)
        return made.txid, made.vout

    data = Game.at_rest(ESCROW).encode()
    return exchange.open_channel(*players, Terms(balances=REST), fund, state_data=data, app_id=APP_ID)


def offer(mover: ChannelParty, other: ChannelParty, channel: bytes, new: ApplicationState) -> None:
    """One update, without anybody's approval beforehand."""
    exchange.run(mover, other, mover.offer(channel, new.balances, new.conditions, new.state_data))


def play(players: tuple[ChannelParty, ChannelParty], channel: bytes, *squares: int) -> ApplicationState:
    """Stakes and these moves; the newest state."""
    now = FIRST
    offer(*players, channel, now)
    for square in squares:
        mover = Game.read(now.state_data).player
        now = successor(now, Game.read(now.state_data).move(square))
        offer(players[mover], players[mover.other], channel, now)
    return now


def _view(state: CompleteState) -> ApplicationState:
    """What the rules see of a state."""
    return application_state(state.content.read_header(), state.content.read_conditions(), state.content.state_data)


def test_parties_play_a_game_and_refuse_a_cheat(players: tuple[ChannelParty, ChannelParty], channel: bytes) -> None:
    """Both sign what the rules allow; a payout to the loser is refused before anybody signs."""
    now = play(players, channel, 0, 1, 4, 2)

    with pytest.raises(ApplicationRefused, match="600000 sat are A's"):
        offer(*players, channel, state(WON, (PLAYING[0], PLAYING[1] + 2 * STAKE)))
    offer(*players, channel, successor(now, WON))

    assert (BUY_IN + STAKE, BUY_IN - STAKE) == players[0].channel(channel).balances


@pytest.mark.parametrize(
    ("squares", "claimant", "move", "words"),
    [
        ((0, 1, 4, 2), Side.A, 7, "does not win"),
        ((0, 1, 4, 2), Side.A, 1, "against the rules"),
        ((0, 1, 4, 2), Side.A, None, "own turn"),
        ((0, 1, 4, 2), Side.B, 8, "does not win"),
        ((0, 1, 4, 2, 8), Side.A, None, "no game is running"),
    ],
)
def test_the_referee_refuses_claims_without_ground(
    players: tuple[ChannelParty, ChannelParty],
    channel: bytes,
    squares: tuple[int, ...],
    claimant: Side,
    move: int | None,
    words: str,
) -> None:
    """Not for a move that does not win, not for the player on turn, not for a finished game."""
    play(players, channel, *squares)
    view = players[0].channel(channel)

    newest = players[0].state(channel, view.sequence)
    settled = newest.content.read_header().settle_txid_a

    with pytest.raises(ClaimRefused, match=words):
        check_claim(view.params, newest, settled, claimant, move)


def test_the_referee_decides_about_the_state_that_was_settled(
    players: tuple[ChannelParty, ChannelParty], channel: bytes
) -> None:
    """A won position of before is signed by both, too; its pot is another one."""
    play(players, channel, 0, 1, 4, 2)
    before = players[0].state(channel, players[0].channel(channel).sequence)
    won = Game.read(before.content.state_data).move(5)
    offer(*players, channel, successor(_view(before), won))
    settled = players[0].state(channel, before.seq + 1).content.read_header().settle_txid_b

    with pytest.raises(ClaimRefused, match="another state than this one was settled"):
        check_claim(players[0].channel(channel).params, before, settled, Side.A, 8)


def test_the_referee_grants_a_winning_move_and_a_turn_that_never_came(
    players: tuple[ChannelParty, ChannelParty], channel: bytes
) -> None:
    """A on turn with the winning square; B, when A is on turn and silent."""
    play(players, channel, 0, 1, 4, 2)
    view = players[0].channel(channel)
    newest = players[0].state(channel, view.sequence)

    header = newest.content.read_header()
    claims = ((header.settle_txid_a, Side.A, 8), (header.settle_txid_b, Side.B, None))

    granted = [check_claim(view.params, newest, settled, side, move) for settled, side, move in claims]

    assert [5, 5] == granted
