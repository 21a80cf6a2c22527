"""The demonstration: a private regtest node, a real tower process, and six acts on the node's own chain."""

from __future__ import annotations

from watchtower.demo.play import play

__all__ = ["play"]
