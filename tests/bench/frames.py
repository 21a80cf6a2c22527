"""A second listener on the node's ZMQ messages: when did the node say that it took a transaction?"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import zmq

from domain.transaction import Transaction
from watchtower.devnode.regtest import ZMQ_TOPICS
from watchtower.node.blocks import transaction_inputs

CLOSING_MS = 100
NOTHING_DROPPED = tuple(f"-zmqpub{topic}hwm=0" for topic in ZMQ_TOPICS)
"""For the node: else it throws messages away when thousands come at once, and the clock stands still.

All topics share one socket, and the node takes the limit of the first of them.
"""


class FrameClock:
    """Notes the arrival (seconds, monotonic) of the first `rawtx` frame of each transaction, by txid and by input."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"rawtx")
        self._socket.connect(endpoint)
        self._closing = threading.Event()
        self._heard = threading.Condition()
        self._by_txid: dict[bytes, float] = {}
        self._by_input: dict[bytes, float] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def of_transaction(self, txid: bytes, seconds: float = 10.0) -> float:
        """When the transaction was announced; `TimeoutError` if it never is."""
        return self._wait(self._by_txid, txid, seconds)

    def of_spend(self, outpoint: bytes, seconds: float = 10.0) -> float:
        """When the first transaction that spends the outpoint was announced."""
        return self._wait(self._by_input, outpoint, seconds)

    def close(self) -> None:
        """Stop listening. The socket belongs to its thread and is closed there."""
        self._closing.set()
        self._thread.join()
        self._context.term()

    def _wait(self, heard: Mapping[bytes, float], key: bytes, seconds: float) -> float:
        with self._heard:
            if not self._heard.wait_for(lambda: key in heard, seconds):
                raise TimeoutError(f"the node announced nothing about {key.hex()} within {seconds:g} s")
            return heard[key]

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._socket.poll(CLOSING_MS):
                raw = self._socket.recv_multipart()[1]
                self._note(raw, time.monotonic())
        self._socket.close(linger=0)

    def _note(self, raw: bytes, now: float) -> None:
        txid, inputs = Transaction.parse(raw).txid, transaction_inputs(raw)
        with self._heard:
            self._by_txid.setdefault(txid, now)
            for outpoint in inputs:
                self._by_input.setdefault(outpoint, now)
            self._heard.notify_all()
