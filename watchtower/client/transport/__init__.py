"""How two parties reach each other: the port, an in-process pair, and TCP with ZeroMQ's CURVE.

A `Transport` is one connection from its beginning to its end. It never connects again by itself, because what
was on the way when a connection broke is lost: the link must notice, dial anew and let both sides say where
they stand.
"""

from watchtower.client.transport.port import Listener, Transport

__all__ = ["Listener", "Transport"]
