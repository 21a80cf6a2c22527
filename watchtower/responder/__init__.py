"""Answers breaches and settles honest closes; level-triggered, from the read models."""
