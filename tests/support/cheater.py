"""The cheater of the demo, for tests: signs revoked commitments from data that should have been thrown away."""

from __future__ import annotations

from watchtower.demo.cheater import secrets_of, unsafe_commitment

__all__ = ["secrets_of", "unsafe_commitment"]
