"""The rules: which state of a game may follow which. Pure, and the same for both players and the tower.

State data is canonical JSON, `{"board": ".X..O....", "escrow": "wsh(…)", "over": false, "turn": "A"}`. A marks X and
begins, B marks O; squares count from 0, row by row.

    over ──stakes──▶ running ──moves──▶ over

While a game runs, the stakes lie in one descriptor output, the pot. The move that ends the game pays it out. So a
player who sees that he loses and falls silent gains nothing: the pot is not his, it waits for two of three keys.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from domain.application import ApplicationState, decode_state_data, encode_state_data
from domain.errors import DomainError
from domain.units import Side

APP_ID = sha256(b"example application: tic-tac-toe, rules 1").digest()
EMPTY = "." * 9
MARKS = {Side.A: "X", Side.B: "O"}
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


class IllegalMove(DomainError):
    """A move that the rules of the game do not know."""

    slug = "illegal-move"


class Game(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A position. `escrow` is the descriptor of the pot, fixed for the channel; `turn` is A or B."""

    board: str
    escrow: str
    over: bool
    turn: str

    @classmethod
    def at_rest(cls, escrow: str) -> Game:
        """Before the first game of a channel."""
        return cls(EMPTY, escrow, over=True, turn="A")

    @classmethod
    def read(cls, state_data: bytes) -> Game:
        """From the bytes of a state; raises `MalformedInput` or msgspec's ValidationError."""
        return msgspec.convert(decode_state_data(state_data), cls)

    def encode(self) -> bytes:
        """The bytes of a state."""
        return encode_state_data(msgspec.to_builtins(self))

    @property
    def player(self) -> Side:
        """Whose turn it is."""
        return Side[self.turn]

    @property
    def free(self) -> list[int]:
        """Squares without a mark."""
        return [square for square, mark in enumerate(self.board) if mark == "."]

    @property
    def winner(self) -> Side | None:
        """Who has three in a row."""
        return next((side for side in Side if has_line(self.board, MARKS[side])), None)

    def begin(self) -> Game:
        """A new game: empty board, A begins."""
        if not self.over:
            raise IllegalMove("a game is running; finish it first")
        return msgspec.structs.replace(self, board=EMPTY, over=False, turn="A")

    def move(self, square: int) -> Game:
        """The player on turn marks a square."""
        if self.over:
            raise IllegalMove("no game is running; put up the stakes first")
        if square not in self.free:
            raise IllegalMove(f"square {square} is not free")
        board = self.board[:square] + MARKS[self.player] + self.board[square + 1 :]
        over = "." not in board or has_line(board, MARKS[self.player])
        return msgspec.structs.replace(self, board=board, over=over, turn=self.player.other.name)

    def shares(self, pot: int) -> tuple[int, int]:
        """What A and B get of the pot (satoshi) when the game is over: all for the winner, halves for a draw."""
        if self.winner is None:
            return pot // 2, pot // 2
        return (pot, 0) if self.winner is Side.A else (0, pot)


def has_line(board: str, mark: str) -> bool:
    """Three of a mark in a row."""
    return any(all(board[square] == mark for square in line) for line in LINES)


class TicTacToe:
    """The application: accepts exactly the states that the rules above lead to."""

    app_id = APP_ID

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """The reason against `new`, or None."""
        try:
            after = Game.read(new.state_data)
            if old is None:
                return _first(after, new)
            before = Game.read(old.state_data)
        except (DomainError, msgspec.ValidationError) as error:
            return f"the state data is no position: {error}"
        return _stakes(before, after, old, new) if before.over else _move(before, after, old, new)


def _first(game: Game, new: ApplicationState) -> str | None:
    if game != Game.at_rest(game.escrow):
        return "a channel begins with an empty board and no game running"
    return "a channel begins without a pot" if new.conditions else None


def _stakes(before: Game, after: Game, old: ApplicationState, new: ApplicationState) -> str | None:
    if after != before.begin():
        return "after a game comes a new one: empty board, A to move, the same escrow"
    pot = _pot(after, new)
    if pot is None or pot % 2:
        return "both put up the same stake, in one output that pays the escrow"
    if new.balances != (old.balances[0] - pot // 2, old.balances[1] - pot // 2):
        return f"each player's balance pays half of the pot of {pot} sat"
    return None


def _move(before: Game, after: Game, old: ApplicationState, new: ApplicationState) -> str | None:
    if after not in [before.move(square) for square in before.free]:
        return f"{before.turn} is on turn and marks one free square; everything else stays"
    pot = _pot(before, old) or 0
    if not after.over:
        same = new.balances == old.balances and new.conditions == old.conditions
        return None if same else "no money moves while the game runs"
    if new.conditions:
        return "the game is over, so its pot is paid out"
    share_a, share_b = after.shares(pot)
    due = (old.balances[0] + share_a, old.balances[1] + share_b)
    return None if new.balances == due else f"the game is over: {due[0]} sat are A's and {due[1]} sat are B's"


def _pot(game: Game, state: ApplicationState) -> int | None:
    """Amount of the one condition, if it pays the escrow."""
    if len(state.conditions) != 1 or state.conditions[0].descriptor != game.escrow:
        return None
    return state.conditions[0].amount
