"""Example applications of state channels."""
