"""`python -m watchtower` is the command `watchtower`."""

from watchtower.cli import main

main()
