"""Tic-tac-toe for satoshi: a two-player game whose rules are a state channel application.

`rules` decides which state may follow which, `escrow` holds the pot, `referee` ends a game that a player left,
`table` is a whole setting on a private chain. `python -m examples.tictactoe` plays.
"""
